"""The groups of classes that results are averaged over."""

import numpy as np
from numpy.typing import NDArray

from possam.vocabulary import Vocabulary
from possam.vocabulary.splits import find_split

__all__ = ["GROUP_NAMES", "class_groups", "mean_of"]

# Suffix of a metric's name → what a table calls the group.
GROUP_NAMES = {"": "all", "_th": "things", "_st": "stuff", "_seen": "seen", "_unseen": "unseen"}
GROUP_NAMES |= {"_base": "base", "_novel": "novel"}  # of a split
GROUP_NAMES |= {"_small": "small", "_medium": "medium", "_large": "large"}  # instances
GROUP_NAMES |= {"r": "rare", "c": "common", "f": "frequent"}  # in training, of LVIS


def class_groups(
    vocabulary: Vocabulary, train_vocabulary: Vocabulary | None, split: str = ""
) -> dict[str, NDArray[np.bool_]]:
    """Which classes belong to each group: a K bool array by suffix (`GROUP_NAMES`).

    "_seen" and "_unseen" (`Vocabulary.seen`) are left out where there is no training vocabulary, "_base" and
    "_novel" where there is no split (`possam.vocabulary.splits`).
    """
    things = np.array(vocabulary.isthing, dtype=bool)
    groups = {"": np.ones_like(things), "_th": things, "_st": ~things}
    if train_vocabulary is not None:
        seen = np.array(vocabulary.seen(train_vocabulary), dtype=bool)
        groups |= {"_seen": seen, "_unseen": ~seen}
    if split:
        lists = find_split(split)
        # By id, since the names of the dataset's classes may come from another source than the split's.
        ids = {category.names[0]: category.dataset_id for category in Vocabulary.load(lists.table).categories}
        for suffix, names in (("_base", lists.base), ("_novel", lists.novel)):
            chosen = {ids[name] for name in names}
            groups[suffix] = np.array([category.dataset_id in chosen for category in vocabulary.categories], dtype=bool)
    return groups


def mean_of(values: NDArray[np.float64], group: NDArray[np.bool_]) -> float:
    """Mean over a group's classes that are not NaN; NaN where there are none."""
    chosen = values[group & ~np.isnan(values)]
    return float(chosen.mean()) if len(chosen) else float("nan")
