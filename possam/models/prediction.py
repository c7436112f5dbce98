"""Mask proposals of an image, before any vocabulary, and predictions, before any ensemble.

Shapes: Q queries, K classes, D width of CLIP's joint space; h×w = H/4×W/4 of the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from possam.classifiers import ClassificationInputs, CosineClassifier
from possam.inference import MaskGrid
from possam.vocabulary import ClassEmbeddings, Vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskProposals:
    """Masks of one image, and the embeddings that any vocabulary can be compared with.

    Attributes:
        mask_logits: Q×h×w float32, stride 4 of the padded input.
        query_embeddings, clip_embeddings: Q×D float32 unit vectors: class embeddings of the trained head, and the
            mask-pooled F_clip projected.
        clip_empty: Q bool, masks without a pixel at CLIP's resolution.
        iou: Q float32 in [0, 1].
        padded_size, image_size: (height, width) in pixels of the padded network input, and of the image within it.
    """

    mask_logits: Tensor
    query_embeddings: Tensor
    clip_embeddings: Tensor
    clip_empty: Tensor
    iou: Tensor
    padded_size: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The fields that have a row a mask."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, Tensor)}

    def __getitem__(self, masks: Tensor) -> MaskProposals:
        """Some of the masks, by their indices or a bool for each."""
        chosen: dict[str, Any] = {name: value[masks] for name, value in self.tensors.items()}
        return replace(self, **chosen)

    @classmethod
    def cat(cls, several: Sequence[MaskProposals]) -> MaskProposals:
        """All masks of several proposals, at least one, of the same image."""
        names = several[0].tensors
        joined: dict[str, Any] = {name: torch.cat([getattr(one, name) for one in several]) for name in names}
        return replace(several[0], **joined)


@dataclass(eq=False)
class Prediction:
    """What the network says of one image before an ensemble turns it into scores.

    Attributes:
        mask_logits: Q×h×w float32, stride 4 of the padded input.
        inputs: everything the ensembles read (METHOD.md 1.9).
        vocabulary: the K classes of `inputs`.
        padded_size, image_size, output_size: (height, width) in pixels of the padded network input, of the image
            within it, and of the segmentation to return.
    """

    mask_logits: Tensor
    inputs: ClassificationInputs
    vocabulary: Vocabulary
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    @cached_property
    def masks(self) -> MaskGrid:
        """The Q masks at `output_size`, restored where they are looked at."""
        return MaskGrid(
            self.mask_logits,
            padded_size=self.padded_size,
            image_size=self.image_size,
            output_size=self.output_size,
        )


def compare(
    proposals: MaskProposals,
    text: ClassEmbeddings,
    train_text: ClassEmbeddings,
    seen: Sequence[bool],
    classifier: CosineClassifier,
    clip_scale: float,
    *,
    background: int,
) -> ClassificationInputs:
    """Compare mask proposals with the text of K classes, by the trained classifier and by CLIP.

    Args:
        text, train_text: of the K classes, and of the training vocabulary.
        seen: of each of the K classes whether it shares a name with the training vocabulary.
        clip_scale: of CLIP's logits.
        background: how many of the K classes, the last ones, are background words.
    """
    query, clip = proposals.query_embeddings, proposals.clip_embeddings
    return ClassificationInputs(
        query_embeddings=query,
        clip_embeddings=clip,
        query_logits=classifier(query, text),
        clip_logits=text.logits(clip, clip_scale),
        iou=proposals.iou,
        clip_empty=proposals.clip_empty,
        text=text,
        train_text=train_text,
        query_scale=classifier.scale.item(),
        clip_scale=clip_scale,
        exact_seen=torch.tensor(seen, device=query.device),
        background=background,
    )


def no_prompts(model: object) -> str:
    """The error message of a system that is given prompts and takes none."""
    return (
        f"{type(model).__name__} takes no prompts: it finds all masks of an image itself. Leave out points and boxes, "
        "or use a model whose architecture takes prompts."
    )


def needs_prompts(model: object) -> str:
    """The error message of a system that needs prompts, where words alone are given."""
    return (
        f"{type(model).__name__} needs prompts: after set_image use prompt with points or boxes, or everything, which "
        "takes a grid of points (in the command --point, --box or --everything)."
    )
