"""The first sections of a page: headline numbers, all metrics by group of classes, and the ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from possam.evaluation.groups import GROUP_NAMES
from possam.report.markup import Markup, element, join

__all__ = ["cards", "comparison", "metrics_table", "number", "table"]

# Metric → its task and its name for people.
_METRICS = {
    "PQ": ("panoptic_seg", "panoptic quality"),
    "SQ": ("panoptic_seg", "segmentation quality"),
    "RQ": ("panoptic_seg", "recognition quality"),
    "mIoU": ("sem_seg", "mean IoU of pixels"),
    "AP": ("segm", "average precision of masks"),
    "AP50": ("segm", "the same at IoU 0.50"),
    "AP75": ("segm", "the same at IoU 0.75"),
}
# Task, metric, what it is called, and its places after the point.
_CARDS = (
    ("panoptic_seg", "PQ", "PQ", 1),
    ("panoptic_seg", "PQ_seen", "PQ seen", 1),
    ("panoptic_seg", "PQ_unseen", "PQ unseen", 1),
    ("sem_seg", "mIoU", "mIoU", 1),
    ("segm", "AP", "AP", 1),
    ("iou_head", "spearman_segments", "ρ(IoU)", 2),
)
_COMPARED = ("PQ", "PQ_seen", "PQ_unseen", "PQ_th", "PQ_st", "SQ", "RQ", "mIoU", "mIoU_seen", "mIoU_unseen", "AP")


def number(value: float | None, places: int = 1) -> str:
    """A number as text; "" for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:.{places}f}"


def table(
    heads: Sequence[object], rows: Sequence[Markup], *, words: int = 1, id_: str | None = None, sortable: bool = False
) -> Markup:
    """A table whose first `words` columns are words and the others numbers."""
    cells = [
        element(
            "th",
            element("button", head, type="button") if sortable and head != "" else head,
            class_="word" if place < words else None,
            scope="col",
        )
        for place, head in enumerate(heads)
    ]
    head = element("thead", element("tr", *cells))
    return element("table", head, element("tbody", *rows), id=id_, class_="sortable" if sortable else None)


def cards(results: Mapping[str, Any]) -> Markup:
    """The numbers that are asked for first, as far as they were scored."""
    found = [(number((results.get(task) or {}).get(metric), places), text) for task, metric, text, places in _CARDS]
    shown = [
        element("div", element("b", value), element("span", text), class_="card") for value, text in found if value
    ]
    return element("div", *shown, class_="cards")


def metrics_table(results: Mapping[str, Any]) -> Markup:
    """Metrics (rows) over all, thing, stuff, seen and unseen classes (columns), in percent."""
    values = {metric: results[task] for metric, (task, _) in _METRICS.items() if metric in (results.get(task) or {})}
    suffixes = [s for s in GROUP_NAMES if any(metric + s in of_task for metric, of_task in values.items())]
    rows = [
        element(
            "tr",
            element(
                "th", metric, element("span", f" {_METRICS[metric][1]}", class_="faint"), class_="word", scope="row"
            ),
            *(element("td", number(of_task.get(metric + suffix))) for suffix in suffixes),
        )
        for metric, of_task in values.items()
    ]
    return element("div", table(["%", *(GROUP_NAMES[s] for s in suffixes)], rows), class_="scroll")


def comparison(results: Mapping[str, Any], chosen: str | None) -> Markup:
    """A row for every ensemble that was scored on the same masks; nothing where only one was."""
    compared = results.get("compare") or {}
    if len(compared) < 2:
        return Markup("")
    metrics = [metric for metric in _COMPARED if any(metric in values for values in compared.values())]
    groups = {suffix: name for suffix, name in GROUP_NAMES.items() if suffix}
    heads = []
    for metric in metrics:
        base, _, group = metric.partition("_")
        heads.append(f"{base} {groups[f'_{group}']}" if group else base)
    rows = [
        element(
            "tr",
            element("th", name, class_="word", scope="row"),
            *(element("td", number(values.get(metric))) for metric in metrics),
            class_="chosen" if name == chosen else None,
        )
        for name, values in compared.items()
    ]
    return join(
        element("h3", "Ensembles on the same masks"),
        element("div", table(["ensemble", *heads], rows, sortable=True), class_="scroll"),
    )
