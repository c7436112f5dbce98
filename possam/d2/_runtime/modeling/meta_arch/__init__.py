"""The registry of whole models."""

from .build import META_ARCH_REGISTRY as META_ARCH_REGISTRY
from .build import build_model as build_model
