"""Class logits as scaled cosines to text embeddings, with a learned void (METHOD.md 1.7)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from possam.vocabulary import ClassEmbeddings

INITIAL_SCALE = 1 / 0.07
MAX_SCALE = 100.0


class CosineClassifier(nn.Module):
    """Logits τ·cos(G, G_text), the best of a class's names, and τ·cos(G, void) as the last one.

    The module holds no class: the text comes with every call. What it learns is the void embedding and τ,
    which starts at 1/0.07, stays at or below 100 and lives in log space as ``log_scale``, where weight decay would
    pull τ to 1. A ``temperature`` > 0 fixes τ at its inverse (METHOD.md 2.2), and then void alone is learned and saved.
    """

    void: Tensor
    log_scale: Tensor
    embedding_parameters: tuple[str, ...] = ("void", "log_scale")  # see possam.engine.optimizer

    def __init__(self, *, embed_dim: int, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, but got {temperature}")
        self.temperature = temperature
        self.void = nn.Parameter(torch.randn(embed_dim))
        if temperature is None:
            self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))

    @property
    def scale(self) -> Tensor:
        """τ, a float32 scalar in (0, 100] that carries a gradient; or the fixed one."""
        if self.temperature is not None:
            return torch.tensor(1 / self.temperature, device=self.void.device)
        return _AtMost.apply(self.log_scale.float().exp(), MAX_SCALE)

    def forward(self, embeddings: Tensor, text: ClassEmbeddings) -> Tensor:
        """…×D of any length and float dtype → …×(K+1) float32 logits, the last one void."""
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            scale = self.scale
            classes = text.logits(embeddings, scale)
            cosine = F.normalize(embeddings.float(), dim=-1) @ F.normalize(self.void.float(), dim=-1)
            return torch.cat([classes, (scale * cosine).unsqueeze(-1)], dim=-1)


class FixedCosineClassifier(CosineClassifier):
    """Logits τ·cos(G, G_text) with a fixed τ and without a learned void (METHOD.md 3.5).

    The last logit is that of a zero vector, always 0, or, without a background, -inf: it never takes a probability.
    """

    embedding_parameters = ()

    def __init__(self, *, embed_dim: int, scale: float = MAX_SCALE, background: bool = True) -> None:
        nn.Module.__init__(self)
        self.background = background
        self.register_buffer("void", torch.zeros(embed_dim), persistent=False)
        self.temperature = 1 / scale

    def forward(self, embeddings: Tensor, text: ClassEmbeddings) -> Tensor:
        logits = super().forward(embeddings, text)
        return logits if self.background else nn.functional.pad(logits[..., :-1], (0, 1), value=-math.inf)


class _AtMost(torch.autograd.Function):
    """min(x, bound), whose gradient still lets x come back down.

    The gradient of ``clamp`` is zero beyond its bound: a temperature that overshot by one step would be
    frozen for the rest of the training.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(max=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        descends = (x < ctx.bound) | (gradients[0] > 0)
        return gradients[0] * descends, None
