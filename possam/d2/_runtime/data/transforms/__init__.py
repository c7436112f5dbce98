"""Image transforms: fvcore's, Detectron2's own, and the random policies that choose them."""

# ruff: noqa: F403
from fvcore.transforms.transform import *

from .augmentation import *
from .augmentation_impl import *
from .transform import *
