"""The registry of ensembles, and the score formula that most of them share.

Shapes: Q masks of one image, K classes of the vocabulary in use.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

_Class = TypeVar("_Class", bound=type)


class Ensemble(ABC):
    """Turns embeddings and logits of one image's masks into scores.

    Constants are keyword arguments of the constructor, each with a default. One called `eta` is the power of the IoU
    in the scores.
    """

    def without_iou(self) -> Ensemble:
        """The same ensemble whose scores are not weighted by the IoU (η = 0): what a mask filter starts from."""
        other = copy.copy(self)
        other.eta = 0.0  # type: ignore[attr-defined]
        return other

    @abstractmethod
    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        """Scores Q×K float32 in [0, 1]; what is missing from a row's sum is void or doubt."""

    @abstractmethod
    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        """Per-mask quantities behind the scores, for pictures and tables."""

    def in_parts(self, parts: Iterable[ClassificationInputs]) -> tuple[Tensor, Iterator[Tensor]]:
        """Score a vocabulary in parts: a factor of each mask, Q float32, and Q×n logits of each part, such that scores
        are the factor times the softmax of all parts' logits.

        Args:
            parts: of the vocabulary in its order; iterated repeatedly.

        Raises:
            ValueError: the ensemble has no such form.
        """
        raise ValueError(f"{type(self).__name__} cannot score a vocabulary in parts; implement in_parts, or score all.")


ENSEMBLE_REGISTRY: dict[str, type[Ensemble]] = {}
"""Classes by the names that configurations use, such as "mase"."""


class PosteriorEnsemble(Ensemble):
    """r_ik ∝ p_ik^(κ(1−λ_ik)) · q_ik^(λ_ik); score (1 − v_i)·r_ik·s_i^η (METHOD.md 1.9).

    p and q are softmax of LDP's and CLIP's logits over the K classes, v LDP's void probability, s the
    predicted IoU. Subclasses differ in λ, the weight of CLIP, and in nothing else, so that they can be
    compared. A mask with no pixel at CLIP's resolution takes λ = 0 in every one of them:
    its CLIP embedding means nothing.

    Args:
        kappa: κ > 0, sharpens LDP; 1 leaves it alone.
        eta: η ≥ 0, how strongly the predicted IoU weighs the score; 0 ignores it.
    """

    def __init__(self, *, kappa: float = 1.0, eta: float = 0.0) -> None:
        self.kappa = in_range("kappa", kappa, above=0.0)
        self.eta = in_range("eta", eta, least=0.0)

    @abstractmethod
    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        """λ before empty masks are excused: any shape that broadcasts to Q×K, float32."""

    def clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        """λ, the weight of CLIP: Q×1 or Q×K float32 in [0, 1]."""
        clip_weight = self._clip_weight(inputs).expand(inputs.iou.shape[0], -1)
        return clip_weight.masked_fill(inputs.clip_empty.unsqueeze(1), 0.0)

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        """``clip_weight``: λ, Q float32 in [0, 1] (the mean over classes where λ differs among them)."""
        return {"clip_weight": self.clip_weight(inputs).mean(dim=1)}

    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        with torch.autocast(device_type=inputs.iou.device.type, enabled=False):
            clip_weight = self.clip_weight(inputs)
            log_p = inputs.query_logits[:, :-1].float().log_softmax(dim=-1)
            log_q = inputs.clip_logits.float().log_softmax(dim=-1)
            posterior = (self.kappa * (1 - clip_weight) * log_p + clip_weight * log_q).softmax(dim=-1)
            return posterior * weight(inputs, self.eta).unsqueeze(1)


    def clip_weight_in_parts(self, parts: Iterable[ClassificationInputs]) -> Iterator[Tensor]:
        """λ of each part: Q×1 or Q×n float32. As if each part were all, which holds where λ_ik depends on i and k."""
        return map(self.clip_weight, parts)

    def in_parts(self, parts: Iterable[ClassificationInputs]) -> tuple[Tensor, Iterator[Tensor]]:
        log_p = logsumexp_of(part.query_logits[:, :-1] for part in parts)[:, None]
        log_q = logsumexp_of(part.clip_logits for part in parts)[:, None]

        def logits() -> Iterator[Tensor]:
            for part, clip_weight in zip(parts, self.clip_weight_in_parts(parts), strict=True):
                p, q = part.query_logits[:, :-1].float() - log_p, part.clip_logits.float() - log_q
                yield self.kappa * (1 - clip_weight) * p + clip_weight * q

        return weight_in_parts(parts, self.eta), logits()


def logsumexp_of(parts: Iterable[Tensor]) -> Tensor:
    """Logsumexp over the columns of all parts, Q×n each: Q float32."""
    total, *others = (part.float().logsumexp(dim=-1) for part in parts)
    for part in others:
        total = torch.logaddexp(total, part)
    return total


def weight_in_parts(parts: Iterable[ClassificationInputs], eta: float) -> Tensor:
    """`weight` of a vocabulary in parts: Q float32 in [0, 1]."""
    classes = logsumexp_of(part.query_logits[:, :-1] for part in parts)
    first = next(iter(parts))
    not_void = torch.sigmoid(classes - first.query_logits[:, -1].float())
    return not_void * first.iou.float().clamp(0, 1) ** eta


def weight(inputs: ClassificationInputs, eta: float) -> Tensor:
    """(1 − v_i)·s_i^η, what a mask's class probabilities are multiplied by: Q float32 in [0, 1]."""
    not_void = 1 - inputs.query_logits.float().softmax(dim=-1)[:, -1]
    return not_void * inputs.iou.float().clamp(0, 1) ** eta


def in_range(
    name: str,
    value: float,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> float:
    """Return a constant as a float after checking its range; ValueError names it otherwise."""
    conditions = {f"≥ {least}": least is None or value >= least, f"> {above}": above is None or value > above}
    conditions[f"≤ {most}"] = most is None or value <= most
    finite = value == value and abs(value) != float("inf")
    broken = [text for text, holds in conditions.items() if not holds] or ([] if finite else ["finite"])
    if broken:
        raise ValueError(f"{name} must be {' and '.join(broken)}, got {value}")
    return float(value)


def register_ensemble(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: register an ensemble under the name that configurations use."""

    def register(ensemble: _Class) -> _Class:
        assert name not in ENSEMBLE_REGISTRY, f"an ensemble is registered as {name!r} already"
        ENSEMBLE_REGISTRY[name] = ensemble
        return ensemble

    return register


def ensemble_constants(configured: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The constants of an ensemble in `MODEL.ENSEMBLE`, as `build_ensemble` takes them; none if it has no section."""
    section = configured.get(name.upper())
    return {key.lower(): value for key, value in section.items()} if isinstance(section, Mapping) else {}


def build_ensemble(name: str, **constants: Any) -> Ensemble:
    """Build a registered ensemble from its name and constants.

    Raises:
        ValueError: unknown name or constant (the message lists the valid ones), or a constant out of range.
    """
    if name not in ENSEMBLE_REGISTRY:
        known = f"the valid ones are {_listed(ENSEMBLE_REGISTRY)}"
        raise ValueError(f"unknown ensemble {name!r}{_closest(name, ENSEMBLE_REGISTRY)}; {known}")
    valid = inspect.signature(ENSEMBLE_REGISTRY[name]).parameters
    for constant in constants:
        if constant not in valid:
            raise ValueError(
                f"ensemble {name!r} has no constant {constant!r}{_closest(constant, valid)}; "
                f"the valid ones are {_listed(valid)}"
            )
    return ENSEMBLE_REGISTRY[name](**constants)


def _closest(word: str, among: Any) -> str:
    match = difflib.get_close_matches(str(word), list(among), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
