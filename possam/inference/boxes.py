"""Boxes that masks and segments really have."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Tightest boxes around masks: N×H×W bool → N×4 float32 XYXY in pixels.

    The right and lower edges lie behind the last pixel, so width and height count pixels. An empty mask has
    the box (0, 0, 0, 0).
    """
    height, width = masks.shape[-2:]
    left, right = _extent(masks.any(dim=1), width)
    top, bottom = _extent(masks.any(dim=2), height)
    return torch.stack([left, top, right, bottom], dim=1).float()


def boxes_of_segments(ids: Tensor, count: int) -> Tensor:
    """Tightest boxes around the segments 1 … `count` of H×W integer ids: `count`×4 float32, as `boxes_of_masks`."""
    height, width = ids.shape
    row = torch.arange(height, device=ids.device)[:, None]
    column = torch.arange(width, device=ids.device)
    top, bottom = _extent(_hit(ids.long() * height + row, count, height), height)
    left, right = _extent(_hit(ids.long() * width + column, count, width), width)
    return torch.stack([left, top, right, bottom], dim=1).float()


def _hit(places: Tensor, count: int, length: int) -> Tensor:
    """`count`×`length` bool: which places, counted from `length` on, occur."""
    return places.flatten().bincount(minlength=(count + 1) * length).view(-1, length)[1:] > 0


def _extent(hit: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First hit and the place behind the last one along dim 1: N×L bool → N, N int64; 0, 0 without a hit."""
    place = torch.arange(length, device=hit.device)
    first = torch.where(hit, place, length).amin(dim=1)
    behind = torch.where(hit, place + 1, 0).amax(dim=1)
    return torch.where(behind > 0, first, 0), behind
