"""Masks of the prompts of an image by SAM's prompt encoder and mask decoder (METHOD.md 3.4).

Shapes: N prompts, M masks of each, C channels, h×w cells of the image embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from possam.encoders.base import no_autocast
from possam.layers.prompts import PADDING, Prompts

from .prompted_decoder import PromptedDecoder, PromptedMasks

if TYPE_CHECKING:
    from .prompt_encoder import PromptEncoder

__all__ = ["ambiguous_prompts", "best_masks", "decode_prompts"]


def decode_prompts(
    prompt_encoder: PromptEncoder, mask_decoder: PromptedDecoder, embedding: Tensor, prompts: Prompts, *, stride: int
) -> PromptedMasks:
    """Decode N prompts. What a prompt gives does not depend on the others: those with equally many tokens are decoded
    together, without padding.

    Args:
        embedding: 1×C×h×w, with what is added for prompts without a mask (`PromptEncoder.no_mask`).
        prompts: on the device of the embedding, in pixels of the padded image.
        stride: pixels of a cell of the embedding.
    """
    height, width = embedding.shape[-2:]
    tokens: dict[int, list[tuple[Tensor, Tensor]]] = {}
    with no_autocast(embedding.device):  # half precision would blur coordinates
        positions = prompt_encoder.positions((height, width))
        real = prompts.labels != PADDING
        layout = 2 * real.sum(1) + prompts.has_box
        for kind in layout.unique().tolist():
            index = (layout == kind).nonzero()[:, 0]
            first = (~real[index]).long().argsort(dim=1, stable=True)[:, : kind // 2]
            encoded = prompt_encoder(
                prompts.points[index].gather(1, first[..., None].expand(-1, -1, 2)),
                prompts.labels[index].gather(1, first),
                prompts.boxes[index] if kind % 2 else None,
                (height * stride, width * stride),
            )
            tokens.setdefault(encoded.shape[1], []).append((index, encoded))
    parts = [mask_decoder(embedding, positions, torch.cat([x for _, x in each])) for each in tokens.values()]
    order = torch.cat([index for each in tokens.values() for index, _ in each]).argsort()
    mask_logits, iou, label = zip(*parts, strict=True)
    return PromptedMasks(
        torch.cat(mask_logits)[order], None if iou[0] is None else torch.cat(iou)[order], torch.cat(label)[order]
    )


def ambiguous_prompts(prompts: Prompts) -> Tensor:
    """N bool: a single point and no box, which may mean the whole of an object or a part."""
    return ~prompts.has_box & ((prompts.labels != PADDING).sum(1) == 1)


def best_masks(masks: PromptedMasks, prompts: Prompts, *, multimask: bool) -> Tensor:
    """N int64, which of its M masks each prompt means: mask 0; with `multimask` the candidate of the largest estimated
    IoU where the prompt is ambiguous, as segment_anything recommends."""
    if masks.iou is None or not multimask:
        return torch.zeros(len(prompts), dtype=torch.int64, device=prompts.device)
    return torch.where(ambiguous_prompts(prompts), 1 + masks.iou[:, 1:].argmax(1), 0)
