"""Training loops, hooks, and everything a training script does first."""

# ruff: noqa: F401, F403
from . import hooks
from .defaults import *
from .train_loop import *
