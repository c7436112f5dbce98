"""Running a model over a dataset and judging what comes out."""

# ruff: noqa: F403
from .evaluator import *
from .testing import *
