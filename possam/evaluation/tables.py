"""Results as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.tasks import registered_tasks

__all__ = ["format_comparison", "format_table", "headline_metrics"]


def format_table(results: Mapping[str, Any]) -> str:
    """The headline metrics in percent (rows) over all, thing, stuff, seen and unseen classes (columns).

    Args:
        results: metrics by task, as the evaluators give them; tasks and groups they lack are left out. A cell is empty
            where a metric is not made for a group, and "–" where the group has no class that counts.
    """
    rows = [
        (metric, results.get(task.result, {}))
        for task in registered_tasks()
        for metric in task.metrics
        if metric.percent and metric.groups and metric.key in results.get(task.result, {})
    ]
    suffixes = [suffix for suffix in GROUP_NAMES if any(metric.key + suffix in values for metric, values in rows)]
    body = [
        [
            metric.heading,
            *(_number(values[metric.key + s], metric.places) if metric.key + s in values else "" for s in suffixes),
        ]
        for metric, values in rows
    ]
    return _table(body, ["%", *(GROUP_NAMES[suffix] for suffix in suffixes)])


def format_comparison(
    results: Mapping[str, Mapping[str, Mapping[str, float]]], *, title: str = "ensemble"
) -> str:
    """One row an entry of `results` (name → metrics by task), one column a headline metric that any of them has.

    Args:
        title: what the entries are, at the head of their column.
    """
    columns = [
        (task.result, column)
        for task in registered_tasks()
        for metric in task.metrics
        for column in metric.columns
        if any(column.key in result.get(task.result, {}) for result in results.values())
    ]
    rows = [
        [name, *(_number(result.get(task, {}).get(c.key, math.nan), c.places) for task, c in columns)]
        for name, result in results.items()
    ]
    return _table(rows, [title, *(column.heading for _, column in columns)])


def headline_metrics(results: Mapping[str, Any]) -> dict[str, float | None]:
    """The headline metrics of one dataset in percent, by their headings in tables ("PQ", "PQ seen", …).

    Args:
        results: the content of a results.json, or metrics by task as the evaluators give them. None is kept.
    """
    return {
        column.heading: results[task.result][column.key]
        for task in registered_tasks()
        for metric in task.metrics
        for column in metric.columns
        if metric.percent and column.key in (results.get(task.result) or {})
    }


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers=headers, tablefmt="github", colalign=align, disable_numparse=True)


def _number(value: float, places: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{places}f}"
