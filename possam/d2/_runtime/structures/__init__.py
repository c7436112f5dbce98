"""Boxes, and instances with any fields."""

# ruff: noqa: F403
from .boxes import *
from .instances import *
