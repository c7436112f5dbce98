"""Boxes, masks, batches of images, and instances with any fields."""

# ruff: noqa: F403
from .boxes import *
from .image_list import *
from .instances import *
from .masks import *
