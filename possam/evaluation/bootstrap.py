"""Bootstrap intervals of panoptic quality over images, and of differences between two models or ensembles.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and 6.2): N
images are drawn with replacement from the N that were scored, PQ of the drawn images is computed as of a dataset, and
the 2.5th and 97.5th percentiles of many such values are the 95 % interval. A class that none of the drawn images has is
left out of their mean, as in `possam.evaluation.panoptic_quality`.

The interval estimates how much a value would change on other images of the same kind. It does not include the variation
among trainings; several seeds do (`difference`). Where many classes are in few images, it is only rough: resamples lack
some of them.

Shapes: N images, K classes, R resamples, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from possam.evaluation.image_counts import ImageCounts
from possam.utils.messages import few

__all__ = ["LEVEL", "RESAMPLES", "Estimate", "bootstrap_results", "difference", "intervals", "quality"]

RESAMPLES = 1000
LEVEL = 0.95
_SEED = 0
_BLOCK = 64  # resamples at a time: memory is that times N + 2·K numbers


class Estimate(NamedTuple):
    """A value with its interval, in percent of PQ; NaN where the images have no class of the group."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """True if the interval includes 0, so that a difference is not established on these images and seeds."""
        return not (self.low > 0 or self.high < 0)


def quality(counts: ImageCounts, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """ "PQ" and the same with each group's suffix ("PQ_seen" …), of R samples of the images, in percent.

    Args:
        weights: R×N, how often each sample has each image.

    Returns:
        R float64 each; NaN where no image of a sample has a class of the group.
    """
    total, weight = np.split(np.asarray(counts.fractions @ np.ascontiguousarray(weights.T)), 2)  # K×R each
    present = weight > 0
    values = 100 * np.divide(total, weight, out=np.zeros_like(total), where=present)
    result = {}
    for suffix, group in counts.groups.items():
        number = present[group].sum(axis=0)
        nothing = np.full(len(weights), np.nan)
        result[f"PQ{suffix}"] = np.divide(values[group].sum(axis=0), number, out=nothing, where=number > 0)
    return result


def intervals(*runs: ImageCounts, resamples: int = RESAMPLES, seed: int = _SEED) -> dict[str, Estimate]:
    """Estimate the mean PQ of one run or of several seeds with its 95 % interval, by metric ("PQ", "PQ_seen" …).

    A resample draws N images, the same for all runs, and S of the S runs (see `difference`). Resamples in which a group
    has no class that counts are left out of that group's interval.

    Raises:
        ValueError: there is no run or no image, runs are of other images, classes or groups, or there are fewer than
            two resamples.
    """
    if not runs:
        raise ValueError("an interval needs the counts of a run, but there are none.")
    return _over_seeds(*_sampled(runs, resamples, seed), seed)


def difference(
    first: Sequence[ImageCounts], second: Sequence[ImageCounts], *, resamples: int = RESAMPLES, seed: int = _SEED
) -> dict[str, Estimate]:
    """Estimate the paired difference of PQ, `first` minus `second`, with its 95 % interval, by metric.

    The value is the mean over seeds of the difference on all images. A resample draws N images, the same for both sides
    and all seeds, and S of the S pairs of runs. With one seed only images are drawn, and the interval is of these two
    models. With few seeds it tends to be too narrow: the bootstrap's variance of a mean of S values is that of the
    sample times (S − 1)/S.

    Args:
        first, second: S counts each, one a seed, in the same order of seeds: runs at the same position are a pair.
        seed: of the resampling.

    Raises:
        ValueError: no run or a different number of runs on the two sides; runs of other images, classes or groups; no
            image; or fewer than two resamples.
    """
    if not first or len(first) != len(second):
        raise ValueError(
            f"a paired difference needs the same seeds on both sides, one or more, but there are {len(first)} and "
            f"{len(second)} runs."
        )
    values, samples = _sampled([*first, *second], resamples, seed)
    count = len(first)
    gaps = {metric: of[:count] - of[count:] for metric, of in values.items()}
    return _over_seeds(gaps, {metric: of[:count] - of[count:] for metric, of in samples.items()}, seed)


def bootstrap_results(ensembles: Mapping[str, ImageCounts]) -> dict[str, Any]:
    """Intervals of each ensemble and paired differences to the best, as results.json has them.

    Returns:
        "resamples", "level" and "seed"; "intervals": ensemble → metric → [low, high]; where there are several
        ensembles, "best": metric → ensemble with the highest value, and "differences": ensemble → metric → [difference
        to the best, low, high], without those that are the best. An ensemble whose value is
        NaN is never the best, and its difference is NaN.

    Raises:
        ValueError: there is no image, or ensembles are of different images or classes.
    """
    names = list(ensembles)
    values, samples = _sampled(list(ensembles.values()), RESAMPLES, _SEED)
    result: dict[str, Any] = {"resamples": RESAMPLES, "level": LEVEL, "seed": _SEED}
    result["intervals"] = {
        name: {metric: list(_estimate(values[metric][i], samples[metric][i])[1:]) for metric in samples}
        for i, name in enumerate(names)
    }
    if len(names) < 2:
        return result
    best = {metric: int(np.nanargmax(of)) for metric, of in values.items() if not np.isnan(of).all()}
    result["best"] = {metric: names[i] for metric, i in best.items()}
    result["differences"] = {
        name: {
            metric: list(_estimate(values[metric][i] - values[metric][b], samples[metric][i] - samples[metric][b]))
            for metric, b in best.items()
            if i != b
        }
        for i, name in enumerate(names)
    }
    return result


def _sampled(
    runs: Sequence[ImageCounts], resamples: int, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """PQ of every run on all images (a number a run) and on the same resamples of them (runs×R), by metric."""
    _check(runs)
    if resamples < 2:
        raise ValueError(f"an interval needs two resamples or more, but {resamples} were asked for.")
    images = len(runs[0].image_ids)
    every = [quality(run, np.ones((1, images))) for run in runs]
    blocks = [[quality(run, weights) for run in runs] for weights in _weights(images, resamples, seed)]
    values = {metric: np.concatenate([of[metric] for of in every]) for metric in every[0]}
    samples = {
        metric: np.concatenate([np.stack([of[metric] for of in block]) for block in blocks], axis=1)
        for metric in values
    }
    return values, samples


def _over_seeds(
    values: dict[str, NDArray[np.float64]], samples: dict[str, NDArray[np.float64]], seed: int
) -> dict[str, Estimate]:
    """Mean over seeds and its interval, by metric, of a number a seed (S) and of its resamples (S×R)."""
    count, resamples = next(iter(samples.values())).shape
    drawn = np.random.default_rng((seed, count)).integers(count, size=(count, resamples))
    return {
        metric: _estimate(values[metric].mean(), sampled[drawn, np.arange(resamples)].mean(axis=0))
        for metric, sampled in samples.items()
    }


def _weights(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Numbers of times that each of R resamples has each image: multinomial, in blocks of at most `_BLOCK`×N."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - start)
        drawn = rng.integers(images, size=(count, images)) + images * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images).astype(np.float64)


def _estimate(value: float, sampled: NDArray[np.float64]) -> Estimate:
    sampled = sampled[~np.isnan(sampled)]
    if not len(sampled):
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.percentile(sampled, (50 * (1 - LEVEL), 50 * (1 + LEVEL))).tolist()
    return Estimate(float(value), low, high)


def _check(runs: Sequence[ImageCounts]) -> None:
    """Raise ValueError where runs cannot be compared image by image, or there is no image."""
    first = runs[0]
    if not first.image_ids:
        raise ValueError("counts of no image have no interval; score images first.")
    for run in runs[1:]:
        if run.image_ids != first.image_ids:
            other = sorted(map(str, set(run.image_ids) ^ set(first.image_ids)))
            what = f"of other images (only one of two has {few(other, 3)})" if other else "in another order of images"
            raise ValueError(f"runs that are compared need the same images, but counts are {what}; evaluate alike.")
        same = run.groups.keys() == first.groups.keys()
        if run.class_names != first.class_names:
            raise ValueError(
                f"runs that are compared need the same classes, but there are counts of {len(first.class_names)} and "
                f"of {len(run.class_names)} classes with other names; evaluate them on one dataset."
            )
        if not same or any((run.groups[key] != group).any() for key, group in first.groups.items()):
            raise ValueError(
                "runs that are compared need the same groups of classes, but other classes are seen or unseen in one; "
                "compare models of one training vocabulary."
            )
