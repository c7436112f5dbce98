"""Models by name."""

from .meta_arch import META_ARCH_REGISTRY as META_ARCH_REGISTRY
from .meta_arch import build_model as build_model
