"""Training loss of masks, classes and mask quality."""

# L layers, B images, Q queries, K classes, T segments of an image, N = Σ min(Q, T) matched pairs of a layer
# S points drawn for an image, P points taken for a mask; M channels of the mask features, h×w their size

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.d2.utils import comm
from possam.layers.point_sampling import draw_points, most_uncertain, point_sample

from .mask_losses import dice, sigmoid_bce, thresholded_iou
from .matcher import HungarianMatcher, Match, sample_masks
from .structures import LayerOutput, Target, validate_batch

logger = logging.getLogger(__name__)


class Points(NamedTuple):
    """Points of a batch, B×S×2 each: to match by, to choose the uncertain from, and to take as they are."""

    matching: Tensor
    candidates: Tensor
    uniform: Tensor


class Pairs(NamedTuple):
    """Matched pairs of a batch, int64 on the device of the predictions.

    images: N. queries: L×N. segments: L×N, numbered through the batch. counts: of each image, N in all.
    """

    images: Tensor
    queries: Tensor
    segments: Tensor
    counts: list[int]


class Normalizers(NamedTuple):
    """What sums over a batch are divided by: float32 scalars, averages over processes and forward passes."""

    segments: Tensor
    class_weight: Tensor
    images: Tensor


@dataclass
class _Step:
    """A training step in this process: segments of all its images, the seed of their points, images done so far."""

    counts: Sequence[int | None]
    seed: int = field(default_factory=lambda: int(torch.randint(2**62, ())))
    done: int = 0


class SetCriterion(nn.Module):
    """Class, mask, dice and IoU losses after every decoder layer (METHOD.md 1.4, 1.8).

    Every layer is matched anew. Sums are divided by their number or weight averaged over processes, and an image's
    random points are its own, so that averaged losses and gradients do not depend on how many processes, or forward
    passes of one step (`accumulating`), share a batch.
    All layers and segments of an image share its points, so that its ground truth is sampled once.
    """

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        iou_weight: float = 5.0,
        no_object_weight: float = 0.1,
        points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__()
        if points < 1 or oversample < 1 or not 0 <= importance <= 1:
            raise ValueError(
                "expected points ≥ 1, oversample ≥ 1 and importance in [0, 1], but got "
                f"points={points}, oversample={oversample}, importance={importance}"
            )
        weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight, "iou": iou_weight}
        if min(no_object_weight, *weights.values()) < 0:
            raise ValueError(
                f"loss weights must not be negative, but got {weights}, no_object_weight={no_object_weight}"
            )
        self.matcher = matcher
        self.weights = weights
        self.no_object_weight = no_object_weight
        self.points, self.oversample, self.importance = points, oversample, importance
        self._step: _Step | None = None
        self._told = False  # of more segments than queries

    @contextmanager
    def accumulating(self, counts: Sequence[int | None]) -> Iterator[None]:
        """Take the calls inside the block for parts of one step, so that their mean is the loss of all its images.

        Args:
            counts: segments of each of this process's images of the step, in their order, None for an image that is not
                annotated. Every call gets the next of these images, and all calls get equally many.
        """
        self._step = _Step(counts)
        try:
            yield
        finally:
            self._step = None

    def forward(self, layers: list[LayerOutput], targets: list[Target], mask_features: Tensor) -> dict[str, Tensor]:
        """Losses, weighted already, to be summed.

        In several processes each must call this at the same time, with as many images and seeded alike: image i of
        process r is taken for image i·(processes) + r of the whole batch. See `accumulating` for parts of a batch.

        Args:
            layers: predictions of the learned queries and after every decoder layer, the final one last.
            targets: one an image, on the same device.
            mask_features: B×M×h×w. Masks get their gradients through these and their embeddings.

        Returns:
            float32 scalars ``loss_class``, ``loss_mask``, ``loss_dice``, ``loss_iou`` of the last layer, and
            the same with ``_0``, ``_1``, … of those before. Without any segment in the batch the mask and
            dice losses are 0, and without any annotated image all are, still connected to all predictions.

        Raises:
            ValueError: where shapes or labels do not fit.
            FloatingPointError: where a cost of matching is not finite.
        """
        if not layers:
            raise ValueError("expected the predictions of at least one layer, but got none")
        validate_batch(layers[-1], targets, mask_features)
        device = layers[-1].class_logits.device
        with torch.autocast(device.type, enabled=False):
            mask_features = mask_features.float()
            # first: where costs are not finite in one process, the others must not wait for it here
            step = self._step or _Step([len(target.labels) if target.annotated else None for target in targets])
            normalizers = self._normalizers(layers[-1], step)
            points = self._draw_points(len(targets), device, step)
            pairs = self._pairs(self.matcher(layers, targets, mask_features, points.matching), targets, device)
            parts = {
                "class": self._class_losses(layers, targets, pairs) / normalizers.class_weight,
                **self._mask_losses(layers, targets, mask_features, pairs, points, normalizers),
            }
        suffixes = [*(f"_{index}" for index in range(len(layers) - 1)), ""]
        return {
            f"loss_{name}{suffix}": self.weights[name] * part[index]
            for index, suffix in enumerate(suffixes)
            for name, part in parts.items()
        }

    def draw_points(self, images: int, device: torch.device) -> Points:
        """Random points of ``images`` images, each from a seed of the default generator and its place in the batch."""
        return self._draw_points(images, device, _Step(()))

    def _draw_points(self, images: int, device: torch.device, step: _Step) -> Points:
        """Points of the next ``images`` images of a step."""
        places = range(step.done, step.done + images)
        step.done += images
        seeds = [step.seed + place * comm.get_world_size() + comm.get_rank() for place in places]
        uniform = self.points - int(self.points * self.importance)
        counts = (self.matcher.points, int(self.points * self.oversample), uniform)
        return Points(*draw_points(seeds, counts, device))

    def _normalizers(self, layer: LayerOutput, step: _Step) -> Normalizers:
        """Of all images of the step, so that it does not matter which of them are in this pass."""
        images, queries = layer.iou.shape
        counts = [count for count in step.counts if count is not None]
        if (most := max(counts, default=0)) > queries and not self._told:
            self._told = True
            logger.warning(
                "A training image has %d segments, but the model %d queries: no more segments than these are learned "
                "at a step or can be predicted. Set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES %d or more, or train on "
                "smaller parts of the images. Further images are not told.",
                *(most, queries, most),
            )
        matched = sum(min(count, queries) for count in counts)
        weight = matched + self.no_object_weight * (len(counts) * queries - matched)
        sums = torch.tensor([float(matched), weight, float(len(counts))], device=layer.iou.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        parts = comm.get_world_size() * len(step.counts) / images
        segments, class_weight, annotated = sums[0].clamp(min=1) / parts, sums[1] / parts, sums[2].clamp(min=1) / parts
        return Normalizers(segments, class_weight.clamp(min=torch.finfo(torch.float32).tiny), annotated)

    @staticmethod
    def _pairs(matches: list[Match], targets: list[Target], device: torch.device) -> Pairs:
        images, segments, first = [], [], 0
        for index, (match, target) in enumerate(zip(matches, targets, strict=True)):
            images.append(torch.full_like(match.queries, index))
            segments.append(match.segments + first)
            first += len(target.labels)
        queries = [match.queries for match in matches]
        counts = [each.shape[1] for each in queries]
        moved = torch.stack([torch.cat(parts, 1) for parts in (images, queries, segments)]).to(device)
        return Pairs(moved[0, 0], moved[1], moved[2], counts)

    def _class_losses(self, layers: list[LayerOutput], targets: list[Target], pairs: Pairs) -> Tensor:
        """Weighted sums of cross-entropies over all queries, those without a segment being "no object" → L."""
        class_logits = torch.stack([layer.class_logits.float() for layer in layers])
        no_object = class_logits.shape[-1] - 1
        labels = torch.cat([target.labels for target in targets])
        expected = torch.full(class_logits.shape[:3], no_object, device=labels.device)
        expected[_rows(pairs), pairs.images, pairs.queries] = labels[pairs.segments]
        weight = class_logits.new_ones(no_object + 1)
        weight[no_object] = self.no_object_weight
        losses = F.cross_entropy(class_logits.flatten(0, 2), expected.flatten(), weight, reduction="none")
        return (losses.view(expected.shape) * _annotated(targets, losses)).flatten(1).sum(1)

    def _mask_losses(
        self,
        layers: list[LayerOutput],
        targets: list[Target],
        mask_features: Tensor,
        pairs: Pairs,
        points: Points,
        normalizers: Normalizers,
    ) -> dict[str, Tensor]:
        """Losses by name → L each."""
        mask_logits = _matched_masks(layers, mask_features, pairs)
        iou = torch.stack([layer.iou.float() for layer in layers])
        quality = torch.zeros_like(iou)
        if pairs.queries.numel() == 0:
            # a sum over nothing: zero, yet all predictions stay in the graph, as distributed training needs
            mask = dices = mask_logits.sum((1, 2, 3))
        else:
            places, labels = self._places(mask_logits.detach(), targets, pairs, points)
            values = point_sample(mask_logits.flatten(0, 1)[:, None], places.flatten(0, 1)).view_as(labels)
            mask = sigmoid_bce(values, labels).sum(1) / normalizers.segments
            dices = dice(values, labels).sum(1) / normalizers.segments
            masks = torch.cat([target.masks for target in targets])
            found = thresholded_iou(mask_logits.flatten(0, 1), masks, pairs.segments.flatten())
            quality[_rows(pairs), pairs.images, pairs.queries] = found.view_as(pairs.queries)
        squares = (iou - quality).square() * _annotated(targets, iou)
        return {"mask": mask, "dice": dices, "iou": squares.mean((1, 2)) * (len(targets) / normalizers.images)}

    def _places(
        self, mask_logits: Tensor, targets: list[Target], pairs: Pairs, points: Points
    ) -> tuple[Tensor, Tensor]:
        """Where masks L×N×h×w are compared, L×N×P×2, and their ground truth there, L×N×P."""
        drawn = torch.cat([points.candidates, points.uniform], dim=1)
        actual = torch.cat([sample_masks(target.masks, x) for target, x in zip(targets, drawn, strict=True)])
        candidates, uniform = points.candidates.shape[1], points.uniform.shape[1]
        chosen = [
            most_uncertain(part.flatten(0, 1), x, self.points - uniform).unflatten(0, part.shape[:2])
            for part, x in zip(mask_logits.split(pairs.counts, dim=1), points.candidates, strict=True)
        ]
        others = torch.arange(candidates, candidates + uniform, device=drawn.device)
        index = torch.cat([torch.cat(chosen, 1), others.expand(*pairs.queries.shape, -1)], dim=2)
        return drawn[pairs.images[:, None], index], actual[pairs.segments[..., None], index]


def _matched_masks(layers: list[LayerOutput], mask_features: Tensor, pairs: Pairs) -> Tensor:
    """L×N×h×w float32, of float32 features: with gradients, which the many masks without a segment do not need."""
    embeddings = torch.stack(
        [
            layer.mask_embeddings[pairs.images, queries].float()
            for layer, queries in zip(layers, pairs.queries, strict=True)
        ]
    )
    masks = [
        part @ features.flatten(1)
        for part, features in zip(embeddings.split(pairs.counts, dim=1), mask_features, strict=True)
    ]
    return torch.cat(masks, dim=1).unflatten(2, mask_features.shape[-2:])


def _annotated(targets: list[Target], like: Tensor) -> Tensor:
    """B×1: 1 for images that are annotated, 0 for others."""
    return like.new_tensor([[float(target.annotated)] for target in targets])


def _rows(pairs: Pairs) -> Tensor:
    """Numbers of the layers, L×1."""
    return torch.arange(len(pairs.queries), device=pairs.queries.device)[:, None]
