"""Segment and name the objects at points and in boxes of an image that is encoded once (METHOD.md 3).

Shapes: N prompts, k ≤ 5 names for each; H×W the image as it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from possam.data import build_resize
from possam.inference import MaskGrid
from possam.inference.prompted import point_grid, stability_scores, suppress_masks
from possam.layers.prompts import Prompts
from possam.models import MaskProposals, OpenVocabularySegmenter, PromptedSegmenter
from possam.models.prediction import no_prompts
from possam.predict.background import check_options, choose_background, score_words, won_by_words
from possam.predict.prompted_result import PromptedResult
from possam.vocabulary import Vocabulary

__all__ = ["EncodedImage", "EverythingOptions", "parse_prompts"]


@dataclass(frozen=True, kw_only=True)
class EverythingOptions:
    """Options that select masks of a grid of points; the defaults are those of segment_anything's automatic generator.

    Attributes:
        side: points along each side of the image.
        iou_threshold: least predicted IoU of a mask.
        stability_threshold, stability_offset: least stability score, and the shift of logits that it is taken at
            (`stability_scores`).
        overlap_threshold: of two masks whose IoU is above it, the worse is dropped (`suppress_masks`).

    Raises:
        ValueError: a value is out of range.
    """

    side: int = 32
    iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    overlap_threshold: float = 0.7

    def __post_init__(self) -> None:
        if not isinstance(self.side, Integral) or self.side < 1:
            raise ValueError(f"the grid needs at least 1 point a side, a whole number, but got side={self.side!r}.")
        for name in ("iou_threshold", "stability_threshold", "overlap_threshold"):
            if not isinstance(value := getattr(self, name), Real) or not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], but is {value!r}.")
        if not isinstance(self.stability_offset, Real) or not 0 <= self.stability_offset < np.inf:
            raise ValueError(f"stability_offset must be a finite number, at least 0, but is {self.stability_offset!r}.")


class EncodedImage:
    """Features of an image, for any number of prompts; immutable, so that threads may share it."""

    @torch.no_grad()
    def __init__(self, model: OpenVocabularySegmenter, image: NDArray[np.uint8], *, file_name: str = "") -> None:
        """
        Args:
            model: one that takes prompts, in eval mode.
            image: H×W×3 uint8 RGB in [0, 255].
            file_name: for the results.

        Raises:
            ValueError: the model takes no prompts.
        """
        if not isinstance(model, PromptedSegmenter):
            raise ValueError(no_prompts(model))
        self.model, self.image, self.file_name = model, image, file_name
        resize = build_resize(model.image_size, model.shortest_edge)
        resized = resize.get_transform(image).apply_image(image)
        self._image_size = (resized.shape[0], resized.shape[1])
        self._features, self._padded_size = model.prepare_image(torch.tensor(resized).permute(2, 0, 1))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @torch.no_grad()
    def prompt(self, prompts: Prompts, vocabulary: Vocabulary, *, ensemble: str | None = None) -> PromptedResult:
        """The mask of every prompt, and its names.

        Prompts are decoded and masks restored a few at a time (`PromptedSegmenter.prompts_at_once`), so that no more
        than the result, N×H×W bytes, grows with N.

        Args:
            prompts: N ≥ 1, in pixels of `image`.
            vocabulary: the names to choose from.
            ensemble: see `possam.Predictor`.

        Raises:
            ValueError: there is no prompt, or a prompt is outside the image.
        """
        if not len(prompts):
            raise ValueError("there is no prompt; give at least one point or box.")
        prompts.check_inside(*self.size)
        proposed = (self._propose(chunk) for chunk in prompts.chunks(self.model.prompts_at_once))
        return self._name(proposed, prompts, vocabulary, ensemble)

    @torch.no_grad()
    def everything(
        self,
        vocabulary: Vocabulary,
        options: EverythingOptions | None = None,
        *,
        ensemble: str | None = None,
        threshold: float | None = None,
        background: bool | None = None,
    ) -> PromptedResult:
        """Segment everything and name it: the masks of a grid of points, less bad ones and repetitions (METHOD.md 3.9).

        Masks are ordered by predicted IoU, then by stability **(ours: a system may predict no IoU)**. Stability is
        taken at the size of the network's input, and overlaps at that of the decoder's masks, whose memory is bounded
        however large the photo is. Which masks are kept, and of which pixels, does not depend on their names, but those
        are dropped that a background word wins, or whose score is not above the threshold.

        Args:
            threshold, background: as calling a `possam.Predictor`, but by default there is neither, and all masks that
                are kept get one of the names.

        Returns:
            The masks that are kept, the best first, with the points they came from; N may be 0, and `nothing` says why.

        Raises:
            ValueError: `options` are no EverythingOptions.
        """
        check_options(threshold, background)
        options = EverythingOptions() if options is None else options
        if not isinstance(options, EverythingOptions):
            raise ValueError(f"options must be EverythingOptions, e.g. EverythingOptions(side=9), got {options!r:.80}.")
        every = Prompts(points=point_grid(options.side, self.size)[:, None])
        proposals, score, place, nothing = self._good_masks(every, options)
        order = score.argsort(descending=True, stable=True)
        order = order[proposals.iou[order].argsort(descending=True, stable=True)]
        chosen = suppress_masks(self._cells(proposals) > 0, order, options.overlap_threshold)
        step = self.model.prompts_at_once
        proposed = (proposals[chosen[at : at + step]] for at in range(0, max(1, len(chosen)), step))
        beside = choose_background(self.model, vocabulary, bool(background))
        least = -1.0 if threshold is None else threshold
        result = self._name(proposed, every[place[chosen].cpu()], vocabulary, ensemble, least, beside)
        if len(chosen) and not len(result):
            nothing = (
                f"All {len(chosen)} masks that were found are dropped: their names are not above the threshold, or "
                "background words fit them better."
            )
        return replace(result, nothing=nothing)

    def _good_masks(
        self, every: Prompts, options: EverythingOptions
    ) -> tuple[MaskProposals, torch.Tensor, torch.Tensor, str]:
        """Masks of good predicted IoU and stability, their stability, their prompts' places; and why there is none."""
        kept, stability, places = [], [], []
        good, best_iou, best_stability = 0, 0.0, 0.0
        for start, chunk in enumerate(every.chunks(self.model.prompts_at_once)):
            proposals = self._propose(chunk)
            place = (proposals.iou >= options.iou_threshold).nonzero().flatten()
            score = stability_scores(self._masks(proposals[place]), offset=options.stability_offset)
            stable = score >= options.stability_threshold
            kept.append(proposals[place[stable]])
            stability.append(score[stable])
            places.append(place[stable] + start * self.model.prompts_at_once)
            good += len(place)
            best_iou = max(best_iou, float(proposals.iou.max()))
            best_stability = max([best_stability, *score.tolist()])
        nothing = ""
        if not good:
            nothing = (
                f"No mask has a predicted IoU of at least {options.iou_threshold:g}; the best has {best_iou:.3f}: "
                "lower iou_threshold (--iou-threshold)."
            )
        elif not any(map(len, stability)):
            nothing = (
                f"No mask of good predicted IoU has a stability of at least {options.stability_threshold:g}; the best "
                f"has {best_stability:.3f}: lower stability_threshold (--stability-threshold)."
            )
        return MaskProposals.cat(kept), torch.cat(stability), torch.cat(places), nothing

    def _propose(self, prompts: Prompts) -> MaskProposals:
        (height, width), (new_height, new_width) = self.size, self._image_size
        return self.model.propose_prompts(
            self._features,
            prompts.resize(new_width / width, new_height / height),
            padded_size=self._padded_size,
            image_size=self._image_size,
        )

    def _masks(self, proposals: MaskProposals) -> MaskGrid:
        return MaskGrid(proposals.mask_logits, padded_size=self._padded_size, image_size=self._image_size)

    def _cells(self, proposals: MaskProposals) -> torch.Tensor:
        """The decoder's logits in that part of its masks that shows the image."""
        logits = proposals.mask_logits
        height, width = (
            max(1, -(-length * image // padded))
            for length, image, padded in zip(logits.shape[1:], self._image_size, self._padded_size, strict=True)
        )
        return logits[:, :height, :width]

    def _name(
        self,
        proposed: Iterator[MaskProposals],
        prompts: Prompts,
        vocabulary: Vocabulary,
        ensemble: str | None,
        threshold: float = -1.0,
        background: Sequence[int] = (),
    ) -> PromptedResult:
        parts: list[dict[str, NDArray[Any]]] = []
        kept: list[torch.Tensor] = []
        for proposals in proposed:
            prediction = self.model.classify(proposals, vocabulary, self.size, background)
            scores = score_words(self.model, prediction, ensemble)
            words = scores[:, : len(vocabulary)]
            found = self.model.postprocess(prediction, words, ("prompted",))["prompted"]
            kept.append(((words.amax(dim=1) > threshold) & won_by_words(scores, len(vocabulary))).cpu())
            parts.append({name: values.cpu().numpy()[kept[-1].numpy()] for name, values in found.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return PromptedResult(
            image=self.image,
            prompts=prompts.to("cpu")[torch.cat(kept)],
            masks=joined["masks"],
            boxes=joined["boxes"],
            iou=joined["iou"],
            label_ids=joined["classes"],
            scores=joined["scores"],
            probabilities=joined["probabilities"],
            vocabulary=vocabulary,
            file_name=self.file_name,
        )


def parse_prompts(points: Any = None, labels: Any = None, boxes: Any = None) -> Prompts:
    """Convert points, labels and boxes in lists or arrays to `Prompts`.

    Args:
        points: P×2 numbers (x, y), the points of one object, or N×P×2 for N objects.
        labels: P or N×P: 1 for a point on the object (the default), 0 for one outside it, -1 for none.
        boxes: 4 numbers x0, y0, x1, y1, or N×4. With points, they are those of the same N objects.

    Raises:
        ValueError: as `Prompts`, or something is not made of numbers.
    """
    given: dict[str, Any] = {}
    for name, values, wanted in (("points", points, 3), ("labels", labels, 2), ("boxes", boxes, 2)):
        if values is None:
            continue
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
        try:
            tensor = torch.as_tensor(np.asarray(values, dtype=np.float64))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name} must be numbers in equally long lists, but got {values!r:.120}; objects with fewer points "
                "than others take points of label -1."
            ) from error
        given[name] = tensor[None] if tensor.dim() == wanted - 1 else tensor
    return Prompts(**given)
