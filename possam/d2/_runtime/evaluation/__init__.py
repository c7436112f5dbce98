"""What judges a model, and the mode in which it is judged."""

# ruff: noqa: F403
from .evaluator import *
from .testing import *
