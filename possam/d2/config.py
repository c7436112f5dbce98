"""Configuration trees, and classes built from them."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.config import CfgNode, configurable, get_cfg
else:
    from detectron2.config import CfgNode, configurable, get_cfg

__all__ = ["CfgNode", "configurable", "get_cfg"]
