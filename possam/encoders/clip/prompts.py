"""Prompts through a CLIP's text tower, read no further than they go.

Shapes: N prompts of one batch, L the context length, D width of CLIP's joint space.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from open_clip import CLIP, CustomTextCLIP

__all__ = ["encode_prompts", "prompt_ends"]

_EXCHANGING = threading.Lock()  # `functional_call` exchanges the model's own tensors while it runs, for all threads


def encode_prompts(model: CLIP | CustomTextCLIP, tokens: Tensor) -> Tensor:
    """open_clip's own `encode_text` on prompts without their padding, where that changes nothing.

    In a causal tower no token sees those behind it, and the embedding is read at the end token. So all that comes
    behind the last end token of the batch can be left out: of 77 positions a dozen remain. Other towers get all.

    Args:
        model: an open_clip model.
        tokens: N×L int64.

    Returns:
        N×D, not normalized.
    """
    with _EXCHANGING:
        ends = prompt_ends(model, tokens)
        if ends is None:
            return model.encode_text(tokens)
        length = int(ends.max()) + 1
        tower, name = _text_tower(model)
        shortened = {
            f"{name}positional_embedding": tower.positional_embedding[:length],
            f"{name}attn_mask": tower.attn_mask[:length, :length],
        }
        return functional_call(_TextOf(model), shortened, (tokens[:, :length],))


def prompt_ends(model: CLIP | CustomTextCLIP, tokens: Tensor) -> Tensor | None:
    """N int64: the position at which each prompt's embedding is read; None where later tokens have a say in it."""
    tower, _ = _text_tower(model)
    mask = getattr(tower, "attn_mask", None)
    if tokens.is_meta or not isinstance(mask, Tensor) or getattr(tower, "cls_emb", None) is not None:
        return None
    if getattr(tower, "use_pad_mask", False) or not torch.equal(mask, torch.full_like(mask, -torch.inf).triu(1)):
        return None
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    if pool == "argmax":
        return tokens.argmax(dim=-1)
    if pool == "eos":
        end: int = getattr(tower, "text_eos_id", None) or tower.eos_id
        return tokens.eq(end).int().argmax(dim=-1)
    return None


class _TextOf(nn.Module):
    """A model whose `forward` is its text tower, as `functional_call` wants it."""

    def __init__(self, model: CLIP | CustomTextCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)


def _text_tower(model: CLIP | CustomTextCLIP) -> tuple[Any, str]:
    """The module with the positions and the mask, and the prefix of its names in `_TextOf`."""
    return (model, "model.") if hasattr(model, "token_embedding") else (model.text, "model.text.")
