"""Names to objects."""

from fvcore.common.registry import Registry as Registry
