"""Targets of a training batch: segments with classes, or labels of whole images, each in a vocabulary of its own.

Shapes: L layers, B images, Q queries, K classes, T segments, D width of CLIP's joint space; H×W the padded input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from possam.decoders import MaskPrediction
from possam.losses import LabeledImage, Target
from possam.models.batch import padded_target
from possam.vocabulary import ClassEmbeddings, Vocabulary

__all__ = [
    "class_logits",
    "covered_cells",
    "labeled_images",
    "mask_vocabularies",
    "one_vocabulary",
    "segment_counts",
    "target_of",
]

Inputs = dict[str, Any]
Classify = Callable[[Tensor, ClassEmbeddings], Tensor]
"""…×D class embeddings of masks and the embeddings of K classes to …×(K+1) logits, void last."""
Embed = Callable[[Vocabulary], ClassEmbeddings]
"""A vocabulary to its class embeddings."""


def one_vocabulary(batched_inputs: list[dict[str, Any]]) -> Vocabulary:
    """The vocabulary of a training batch. Raises ValueError where it has several."""
    vocabulary, *others = dict.fromkeys(inputs["vocabulary"] for inputs in batched_inputs)
    if different := [other.name for other in others if vocabulary.difference(other)]:
        names = sorted([vocabulary.name, *different])
        raise ValueError(f"A training batch must have one vocabulary, but got {names}; train on datasets of one.")
    return vocabulary


def segment_counts(batched_inputs: Sequence[Inputs]) -> list[int | None]:
    """The segments of each image, None for one that has labels only.

    Raises:
        ValueError: an input has neither "instances" nor "labels".
    """
    for inputs in batched_inputs:
        if "instances" not in inputs and "labels" not in inputs:
            raise ValueError(
                f"A training input needs 'instances' with masks, or 'labels' of the image, but has {sorted(inputs)}."
            )
    return [len(inputs["instances"].gt_classes) if "instances" in inputs else None for inputs in batched_inputs]


def mask_vocabularies(batched_inputs: Sequence[Inputs], default: Vocabulary) -> list[Vocabulary]:
    """The vocabulary in which the masks of each image are classified.

    Of an image with labels only this has no weight. It takes that of another image, or the default: its own may be
    much larger.

    Raises:
        ValueError: a class of an image's masks is not in its vocabulary.
    """
    for inputs in batched_inputs:
        if "instances" in inputs:
            _check_labels(inputs["instances"].gt_classes, inputs)
    with_masks = (inputs["vocabulary"] for inputs in batched_inputs if "instances" in inputs)
    fill = next(with_masks, default)
    return [inputs["vocabulary"] if "instances" in inputs else fill for inputs in batched_inputs]


def class_logits(
    classify: Classify, embed: Embed, embeddings: Tensor, vocabularies: Sequence[Vocabulary]
) -> Tensor:
    """Class logits L×B×Q×(K+1) of images in a vocabulary each, void last; K is that of the largest vocabulary.

    Vocabularies are not merged: the logits between an image's own classes and void are the least of their type, of no
    probability and no gradient.

    Args:
        embeddings: L×B×Q×D.
        vocabularies: of each image. Those without a `Vocabulary.difference` count as one.
    """
    groups: list[tuple[Vocabulary, list[int]]] = []
    for image, vocabulary in enumerate(vocabularies):
        for known, images in groups:
            if known is vocabulary or not known.difference(vocabulary):
                images.append(image)
                break
        else:
            groups.append((vocabulary, [image]))
    if len(groups) == 1:
        return classify(embeddings, embed(groups[0][0]))
    parts = [classify(embeddings[:, images], embed(vocabulary)) for vocabulary, images in groups]
    classes = max(part.shape[-1] for part in parts)
    padded = [_pad_classes(part, classes) for part in parts]
    order = torch.tensor([image for _, images in groups for image in images], device=embeddings.device)
    return torch.cat(padded, dim=1)[:, order.argsort()]


def _pad_classes(logits: Tensor, classes: int) -> Tensor:
    missing = logits.new_full((*logits.shape[:-1], classes - logits.shape[-1]), torch.finfo(logits.dtype).min)
    return torch.cat([logits[..., :-1], missing, logits[..., -1:]], dim=-1)


def target_of(inputs: Inputs, padded: tuple[int, int], device: torch.device) -> Target:
    """The target of an input whose image is padded to (height, width) pixels; no segments if it has labels only."""
    if "instances" not in inputs:
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        return Target(labels=nothing, masks=nothing.new_zeros(0, *padded, dtype=torch.bool), annotated=False)
    return padded_target(inputs, padded, device)


def labeled_images(
    batched_inputs: Sequence[Inputs],
    final: MaskPrediction,
    embeddings: Tensor,
    mask_features: Tensor,
    padded: tuple[int, int],
    classify: Classify,
    embed: Embed,
) -> list[LabeledImage]:
    """What the losses of image labels read of the images that have labels only.

    Args:
        final: predictions of the last layer.
        embeddings: of their masks, to compare with the labels, B×Q×D.
        mask_features: B×M×h×w.
        padded: (height, width) of the padded images in pixels.

    Raises:
        ValueError: an image has no label, or one that is not in its vocabulary.
    """
    images = []
    for index, inputs in enumerate(batched_inputs):
        if "instances" in inputs:
            continue
        _check_labels(inputs["labels"], inputs)
        if not len(inputs["labels"]):
            raise ValueError(f"{inputs.get('file_name', 'An image')} has neither masks nor labels; leave it out.")
        height, width = inputs["image"].shape[-2:]
        cells = mask_features.shape[-2], mask_features.shape[-1]
        images.append(
            LabeledImage(
                class_logits=classify(embeddings[index], embed(inputs["vocabulary"]))[:, :-1],
                mask_embeddings=final.mask_embeddings[index],
                mask_features=mask_features[index],
                iou=final.iou[index].detach(),
                labels=inputs["labels"].to(embeddings.device),
                covered=covered_cells((height, width), padded, cells).to(embeddings.device),
            )
        )
    return images


def _check_labels(labels: Tensor, inputs: Inputs) -> None:
    """Raise ValueError where classes, int64, are not those of an input's vocabulary."""
    vocabulary = inputs["vocabulary"]
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(vocabulary):
        raise ValueError(
            f"{inputs.get('file_name', 'An image')} has the classes {sorted(set(labels.tolist()))}, but its vocabulary "
            f"{vocabulary.name!r} has 0 to {len(vocabulary) - 1}; give every dataset its own vocabulary."
        )


def covered_cells(image: tuple[int, int], padded: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """The share of each cell, in [0, 1], that an image fills which is padded at its right and bottom.

    Args:
        image, padded: (height, width) in pixels of the image and of the padded input.
        cells: (h, w), into how many cells the padded input is divided.
    """
    rows, columns = (
        (size * count / whole - torch.arange(count)).clamp(0, 1)
        for size, whole, count in zip(image, padded, cells, strict=True)
    )
    return rows[:, None] * columns
