"""Evaluators, and the mode in which models are evaluated."""

# ruff: noqa: F403
from .evaluator import *
from .testing import *
