"""Configuration trees, and classes that can be built from them."""

from .config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]
