"""Masks and scores as a decoder makes them of a scene, and such as leave nothing sure. Q masks, K classes, h×w."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scene(
    queries: int, classes: int, size: tuple[int, int], *, segments: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Scores Q×K and mask logits Q×h×w: a query a segment is sure of its name, the rest show segments again, weakly."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.arange(side) / side for side in size), indexing="ij")
    center, radius = torch.rand(segments, 2, generator=generator), torch.rand(segments, generator=generator) * 0.3
    waves = F.interpolate(torch.randn(1, segments, 12, 12, generator=generator) * 0.05, size=size, mode="bicubic")[0]
    away = ((y - center[:, 0, None, None]) ** 2 + (x - center[:, 1, None, None]) ** 2).sqrt()
    away = away - radius[:, None, None] + waves
    nearest, second = away.topk(2, dim=0, largest=False).values
    others = torch.where(away == nearest, second, nearest)
    segment = torch.arange(queries) % segments
    sure = torch.arange(queries) < segments
    logits = ((others - away) * 60).clamp(-12, 9)[segment] + torch.randn(queries, *size, generator=generator) * 0.5
    logits -= torch.where(sure, 0.0, torch.rand(queries, generator=generator) * 6)[:, None, None]
    names = torch.randn(queries, classes + 1, generator=generator)
    label = torch.randint(classes, (segments,), generator=generator)[segment]
    names[torch.arange(queries), label] += torch.where(sure, 8.0, 4.0)
    names[:, -1] += torch.where(sure, 3.0, 9.0)
    return names.softmax(dim=1)[:, :-1].contiguous(), logits


def haze(queries: int, classes: int, size: tuple[int, int], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The same of a decoder that knows nothing: random scores, half of them high, and masks that are smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, queries, 16, 16, generator=generator) * 6 - 4
    scores = torch.randn(queries, classes + 1, generator=generator).mul(3).softmax(dim=1)
    return scores[:, :-1].contiguous(), F.interpolate(noise, size=size, mode="bicubic")[0]
