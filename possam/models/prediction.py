"""Mask proposals of an image, before any vocabulary, and predictions, before any ensemble.

Shapes: Q queries, K classes, D width of CLIP's joint space; h×w = H/4×W/4 of the padded input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from possam.classifiers import ClassificationInputs
from possam.inference import MaskGrid
from possam.vocabulary import Vocabulary


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


def refuse_prompts(name: str, batched_inputs: Iterable[Mapping[str, Any]]) -> None:
    """Raise ValueError for inputs with prompts, for an architecture of this name that takes none."""
    if any("prompts" in inputs for inputs in batched_inputs):
        raise ValueError(
            f"{name} takes no prompts: it finds all masks of an image itself. Leave out points and boxes, or use a "
            "model whose architecture takes prompts."
        )
