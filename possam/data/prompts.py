"""Prompts for training: points and boxes of an image's instances (METHOD.md 3.7)."""

from __future__ import annotations

from possam.layers.prompts import Prompts

__all__ = ["Prompts"]
