"""Learning rates."""

# ruff: noqa: F403
from .build import *
from .lr_scheduler import *
