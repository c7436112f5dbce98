"""Training loss of prompted masks, whose ground truth is known: nothing is matched (METHOD.md 3.7)."""

# B images; of each: N prompts, M masks of a prompt, K classes, T segments, S points drawn, P points taken for a mask

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.d2.utils import comm
from possam.layers.point_sampling import draw_points, most_uncertain, point_sample

from .mask_losses import dice, sigmoid_bce, thresholded_iou
from .matcher import sample_masks
from .set_criterion import _Step
from .structures import Target

__all__ = ["Assignment", "PromptedCriterion", "PromptedOutput"]


class PromptedOutput(NamedTuple):
    """Predictions for the prompts of one image.

    class_logits: N×(K+1); the last is background, which is nobody's ground truth.
    mask_logits: N×M×h×w, positive inside, with gradients.
    iou: N×M estimated IoU, or None where nothing estimates it.
    """

    class_logits: Tensor
    mask_logits: Tensor
    iou: Tensor | None


class Assignment(NamedTuple):
    """What the prompts of one image mean.

    segments: N int64, the segment of each.
    ambiguous: N bool, prompts that may mean several objects and so have the masks 1 … M−1 as candidates; for the others
        mask 0 is the answer. Without effect where M = 1.
    """

    segments: Tensor
    ambiguous: Tensor


class PromptedCriterion(nn.Module):
    """Class, mask, dice and IoU losses of prompts (METHOD.md 3.7).

    Each loss is the mean over all prompts of the step, whatever images, forward passes (`accumulating`) and processes
    they are in; that of the class over those whose segment has a label. The points of an image are its own, shared by
    its prompts, and of the candidates each mask takes the most uncertain.

    Of the candidates of an ambiguous prompt, the one with the least mask and dice loss is trained (as in SAM); their
    estimates of IoU are all trained.
    """

    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        iou_weight: float = 5.0,
        points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__()
        weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight, "iou": iou_weight}
        if points < 1 or oversample < 1 or not 0 <= importance <= 1 or min(weights.values()) < 0:
            raise ValueError(
                "expected points ≥ 1, oversample ≥ 1, importance in [0, 1] and no negative weight, but got "
                f"points={points}, oversample={oversample}, importance={importance}, weights {weights}"
            )
        self.weights = weights
        self.points, self.oversample, self.importance = points, oversample, importance
        self._step: _Step | None = None
        self._labeled: Sequence[int] = ()

    @contextmanager
    def accumulating(self, counts: Sequence[int], labeled: Sequence[int]) -> Iterator[None]:
        """Take the calls inside the block for parts of one step, so that their mean is the loss of all its images.

        Args:
            counts: prompts of each of this process's images of the step, in their order. Every call gets the next of
                these images, and all calls get equally many.
            labeled: how many of them have a label.
        """
        self._step, self._labeled = _Step(counts), labeled
        try:
            yield
        finally:
            self._step, self._labeled = None, ()

    def forward(
        self, outputs: list[PromptedOutput], targets: list[Target], given: list[Assignment]
    ) -> dict[str, Tensor]:
        """Losses, weighted already, to be summed.

        In several processes each must call this at the same time, with as many images and seeded alike.

        Args:
            outputs, targets, given: one an image, on one device. A label of -1 means that the class is not known.

        Returns:
            float32 scalars ``loss_class``, ``loss_mask``, ``loss_dice`` and, where IoU is estimated, ``loss_iou``.

        Raises:
            ValueError: a prompt of a segment that is not there, or a label that is no class.
        """
        labels = [_labels(*each) for each in zip(outputs, targets, given, strict=True)]
        device = outputs[0].mask_logits.device
        counts = [len(each.segments) for each in given]
        step, labeled = self._step or _Step(counts), self._labeled or [int((each >= 0).sum()) for each in labels]
        prompts, named = self._normalizers(step, labeled, len(outputs), device)
        with torch.autocast(device.type, enabled=False):
            drawn = self._draw_points(len(outputs), device, step)
            masks = [
                self._mask_losses(output, target, assigned, candidates, uniform)
                for output, target, assigned, candidates, uniform in zip(outputs, targets, given, *drawn, strict=True)
            ]
            classes = [
                F.cross_entropy(output.class_logits.float(), label, ignore_index=-1, reduction="sum")
                for output, label in zip(outputs, labels, strict=True)
            ]
            losses = {"loss_class": self.weights["class"] * torch.stack(classes).sum() / named}
            for name in masks[0]:
                total = torch.stack([each[name] for each in masks]).sum()
                losses[f"loss_{name}"] = self.weights[name] * total / prompts
        return losses

    def _normalizers(
        self, step: _Step, labeled: Sequence[int], images: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """What sums over a pass are divided by: prompts and labeled prompts of the step, per pass and process."""
        sums = torch.tensor([float(sum(count or 0 for count in step.counts)), float(sum(labeled))], device=device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        prompts, named = sums.clamp(min=1) * images / (comm.get_world_size() * len(step.counts))
        return prompts, named

    def _draw_points(self, images: int, device: torch.device, step: _Step) -> list[Tensor]:
        """Candidates and points taken as they are, B×S×2 each, of the next images of a step."""
        places = range(step.done, step.done + images)
        step.done += images
        seeds = [step.seed + place * comm.get_world_size() + comm.get_rank() for place in places]
        uniform = self.points - int(self.points * self.importance)
        return draw_points(seeds, (int(self.points * self.oversample), uniform), device)

    def _mask_losses(
        self, output: PromptedOutput, target: Target, given: Assignment, candidates: Tensor, uniform: Tensor
    ) -> dict[str, Tensor]:
        """Sums over the prompts of one image."""
        logits = output.mask_logits.float()
        count, number = logits.shape[:2]
        if not count:  # zero, yet everything stays in the graph, as distributed training needs
            zero = logits.sum()
            sums = {"mask": zero, "dice": zero}
            return sums if output.iou is None else {**sums, "iou": output.iou.float().sum()}
        flat, segments = logits.flatten(0, 1), given.segments.repeat_interleave(number)
        drawn = torch.cat([candidates, uniform])
        actual = sample_masks(target.masks, drawn)
        chosen = most_uncertain(flat.detach(), candidates, self.points - len(uniform))
        others = torch.arange(len(candidates), len(drawn), device=drawn.device)
        index = torch.cat([chosen, others.expand(len(flat), -1)], dim=1)
        values = point_sample(flat[:, None], drawn[index])[:, 0]
        labels = actual[segments[:, None], index]
        mask, dices = (loss(values, labels).view(count, number) for loss in (sigmoid_bce, dice))
        best = torch.zeros(count, dtype=torch.int64, device=drawn.device)
        allowed = torch.zeros(count, number, dtype=torch.bool, device=drawn.device)
        ambiguous = given.ambiguous & (number > 1)
        if number > 1:
            cost = self.weights["mask"] * mask + self.weights["dice"] * dices
            best = torch.where(ambiguous, 1 + cost[:, 1:].argmin(1), best)
            allowed[:, 1:] = ambiguous[:, None]
        allowed[:, 0] = ~ambiguous
        sums = {name: loss.gather(1, best[:, None]).sum() for name, loss in (("mask", mask), ("dice", dices))}
        if output.iou is not None:
            quality = torch.zeros_like(mask)
            shown = allowed.flatten()
            quality[allowed] = thresholded_iou(flat.detach()[shown], target.masks, segments[shown])
            errors = (output.iou.float() - quality).square() * allowed
            sums["iou"] = (errors.sum(1) / allowed.sum(1)).sum()
        return sums


def _labels(output: PromptedOutput, target: Target, given: Assignment) -> Tensor:
    """Labels of the prompts, N int64, after checking the arguments of `PromptedCriterion.forward`."""
    classes, segments = output.class_logits.shape[1] - 1, given.segments
    inside = ((segments >= 0) & (segments < len(target.labels))).all()
    if len(segments) != len(output.class_logits) or not inside:
        raise ValueError(
            f"expected a segment below {len(target.labels)} for each of {len(output.class_logits)} prompts, but got "
            f"{segments.tolist()}"
        )
    labels = target.labels[segments]
    if len(labels) and not -1 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels must lie in [0, {classes}), the classes of the vocabulary in use, or be -1 where the class is not "
            f"known, but got {int(labels.min())} to {int(labels.max())}"
        )
    return labels
