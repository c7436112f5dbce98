"""The groups of classes that results are averaged over."""

import numpy as np
from numpy.typing import NDArray

from possam.vocabulary import Vocabulary

__all__ = ["GROUP_NAMES", "class_groups", "mean_of"]

# Suffix of a metric's name → what a table calls the group.
GROUP_NAMES = {"": "all", "_th": "things", "_st": "stuff", "_seen": "seen", "_unseen": "unseen"}
GROUP_NAMES |= {"r": "rare", "c": "common", "f": "frequent"}  # in training, of LVIS


def class_groups(vocabulary: Vocabulary, train_vocabulary: Vocabulary | None) -> dict[str, NDArray[np.bool_]]:
    """Which classes belong to each group: a K bool array by suffix (`GROUP_NAMES`).

    "_seen" and "_unseen" (`Vocabulary.seen`) are left out where there is no training vocabulary.
    """
    things = np.array(vocabulary.isthing, dtype=bool)
    groups = {"": np.ones_like(things), "_th": things, "_st": ~things}
    if train_vocabulary is not None:
        seen = np.array(vocabulary.seen(train_vocabulary), dtype=bool)
        groups |= {"_seen": seen, "_unseen": ~seen}
    return groups


def mean_of(values: NDArray[np.float64], group: NDArray[np.bool_]) -> float:
    """Mean over a group's classes that are not NaN; NaN where there are none."""
    chosen = values[group & ~np.isnan(values)]
    return float(chosen.mean()) if len(chosen) else float("nan")
