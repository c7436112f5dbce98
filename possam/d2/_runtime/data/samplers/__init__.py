"""Which items come in which order, shared out among processes."""

# ruff: noqa: F403
from .distributed_sampler import *
