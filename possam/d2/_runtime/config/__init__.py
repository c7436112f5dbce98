"""Configuration trees, and classes that can be built from them."""

from .config import CfgNode as CfgNode
from .config import configurable as configurable
from .config import get_cfg as get_cfg

