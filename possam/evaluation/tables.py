"""Results as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from possam.evaluation.bootstrap import Estimate
from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.tasks import registered_tasks

__all__ = ["format_comparison", "format_differences", "format_interval", "format_table", "headline_metrics", "tenths"]

_WIDEST = 100  # columns of a table with intervals


def format_table(results: Mapping[str, Any], *, intervals: Mapping[str, Sequence[float]] | None = None) -> str:
    """The headline metrics in percent (rows) over all, thing, stuff, seen and unseen classes (columns).

    Args:
        results: metrics by task, as the evaluators give them; tasks and groups they lack are left out. A cell is empty
            where a metric is not made for a group, and "–" where the group has no class that counts.
        intervals: [low, high] of PQ by metric ("PQ", "PQ_seen" …), as results.json has them of an ensemble: a row under
            PQ, which is left out where the table would be wider than 100 columns.
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
    heads = ["%", *(GROUP_NAMES[suffix] for suffix in suffixes)]
    shown = _table(body, heads)
    if intervals:
        under = 1 + next(i for i, (metric, _) in enumerate(rows) if metric.key == "PQ")
        body.insert(under, ["95 % interval", *(_interval(intervals.get("PQ" + suffix)) for suffix in suffixes)])
        wider = _table(body, heads)
        shown = wider if len(wider.splitlines()[0]) <= _WIDEST else shown
    return shown


def format_differences(bootstrap: Mapping[str, Any]) -> str:
    """A row for each ensemble but the best: its PQ minus the best one's, with the 95 % interval of the paired
    difference and "includes 0" where that holds; "" where there is no difference to show.

    Args:
        bootstrap: as `possam.evaluation.bootstrap.bootstrap_results` gives it.
    """
    best = bootstrap.get("best", {}).get("PQ")
    if best is None:
        return ""
    estimates = {name: Estimate(*of["PQ"]) for name, of in bootstrap["differences"].items() if "PQ" in of}
    rows = [
        [name, tenths(e.value, "+"), _interval(e[1:]), "includes 0" if e.includes_zero else ""]
        for name, e in estimates.items()
        if not math.isnan(e.value)
    ]
    return "" if not rows else _table(rows, ["ensemble", f"PQ − {best}'s", "95 % interval", ""])


def format_interval(low: float, high: float) -> str:
    """Both ends to one place, in brackets."""
    return f"[{tenths(low)}, {tenths(high)}]"


def tenths(value: float, sign: str = "") -> str:
    """The value to one place, without a minus before 0; with "+" as `sign`, others have theirs."""
    return f"{round(value, 1) + 0.0:{sign}.1f}"


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


def _interval(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    return "–" if math.isnan(values[0]) else format_interval(*values)


def _number(value: float, places: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{places}f}"
