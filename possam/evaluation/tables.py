"""Results as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from possam.evaluation.groups import GROUP_NAMES

__all__ = ["format_comparison", "format_table"]

# Rows of a table: metric → task.
_ROWS = {"PQ": "panoptic_seg", "SQ": "panoptic_seg", "RQ": "panoptic_seg", "mIoU": "sem_seg", "AP": "segm"}
# Columns of a comparison: heading → task and metric.
_COLUMNS = {
    "PQ": ("panoptic_seg", "PQ"),
    "PQ seen": ("panoptic_seg", "PQ_seen"),
    "PQ unseen": ("panoptic_seg", "PQ_unseen"),
    "PQ things": ("panoptic_seg", "PQ_th"),
    "PQ stuff": ("panoptic_seg", "PQ_st"),
    "SQ": ("panoptic_seg", "SQ"),
    "RQ": ("panoptic_seg", "RQ"),
    "mIoU": ("sem_seg", "mIoU"),
    "mIoU seen": ("sem_seg", "mIoU_seen"),
    "mIoU unseen": ("sem_seg", "mIoU_unseen"),
    "AP": ("segm", "AP"),
    "AP seen": ("segm", "AP_seen"),
    "AP unseen": ("segm", "AP_unseen"),
    "AP rare": ("segm", "APr"),
    "AP common": ("segm", "APc"),
    "AP frequent": ("segm", "APf"),
    "ρ(IoU)": ("iou_head", "spearman_segments"),
}


def format_table(results: Mapping[str, Any]) -> str:
    """PQ, SQ, RQ, mIoU and AP (rows) over all, thing, stuff, seen and unseen classes (columns).

    Args:
        results: metrics by task, as the evaluators give them; tasks and groups they lack are left out. A cell is empty
            where a metric is not made for a group, and "–" where the group has no class that counts.
    """
    rows = {metric: results.get(task, {}) for metric, task in _ROWS.items()}
    rows = {metric: values for metric, values in rows.items() if metric in values}
    suffixes = [suffix for suffix in GROUP_NAMES if any(metric + suffix in values for metric, values in rows.items())]
    body = [
        [metric, *(_number(values[metric + s]) if metric + s in values else "" for s in suffixes)]
        for metric, values in rows.items()
    ]
    return _table(body, ["%", *(GROUP_NAMES[suffix] for suffix in suffixes)])


def format_comparison(
    results: Mapping[str, Mapping[str, Mapping[str, float]]], *, title: str = "ensemble"
) -> str:
    """One row an entry of `results` (name → metrics by task), one column a headline metric that any of them has.

    Args:
        title: what the entries are, at the head of their column.
    """
    columns = {
        heading: place
        for heading, place in _COLUMNS.items()
        if any(place[1] in result.get(place[0], {}) for result in results.values())
    }
    rows = [
        [
            name,
            *(
                _number(result.get(task, {}).get(metric, math.nan), places=2 if task == "iou_head" else 1)
                for task, metric in columns.values()
            ),
        ]
        for name, result in results.items()
    ]
    return _table(rows, [title, *columns])


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers=headers, tablefmt="github", colalign=align, disable_numparse=True)


def _number(value: float, places: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{places}f}"
