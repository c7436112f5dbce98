"""The first sections of a page: headline numbers, all metrics by group of classes, and the ensembles.

Numbers of results.json that have an interval there (`possam.evaluation.bootstrap.bootstrap_results`) are shown with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from possam.evaluation.bootstrap import Estimate
from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.tables import format_interval, tenths
from possam.evaluation.tasks import Column, registered_tasks
from possam.report.markup import Markup, element, join

__all__ = ["cards", "comparison", "differences", "metrics_table", "number", "table"]

_CARDS = ("", "_seen", "_unseen")  # groups of classes that the first metric of a task has a card for
_WITH_INTERVALS = "panoptic_seg"  # the task whose metrics have them
_ROW: dict[str, Any] = {"class_": "word short", "scope": "row"}


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


def cards(results: Mapping[str, Any], ensemble: str | None) -> Markup:
    """The numbers that are asked for first, as far as they were scored.

    Args:
        ensemble: whose numbers they are, or None where that is not known.
    """
    found = [
        (
            number((results.get(task.result) or {}).get(column.key), column.places),
            column.heading,
            _interval(results, task.result, ensemble, column.key),
        )
        for task in registered_tasks()
        for column in task.metrics[0].columns
        if column.key.removeprefix(task.metrics[0].key) in _CARDS
    ]
    shown = [
        element("div", element("b", value), element("span", text), interval, class_="card")
        for value, text, interval in found
        if value
    ]
    return element("div", *shown, class_="cards")


def metrics_table(results: Mapping[str, Any], ensemble: str | None) -> Markup:
    """Metrics (rows) over all, thing, stuff, seen and unseen classes (columns) in percent; `ensemble` as of `cards`."""
    values = [
        (task.result, metric, results[task.result])
        for task in registered_tasks()
        for metric in task.metrics
        if metric.percent and metric.key in (results.get(task.result) or {})
    ]
    suffixes = [s for s in GROUP_NAMES if any(metric.key + s in of_task for _, metric, of_task in values)]
    rows = [
        element(
            "tr",
            element(
                "th", metric.heading, element("span", f" {metric.text}", class_="faint"), class_="word", scope="row"
            ),
            *(
                element(
                    "td",
                    number(of_task.get(metric.key + suffix), metric.places),
                    _interval(results, task, ensemble, metric.key + suffix),
                )
                for suffix in suffixes
            ),
        )
        for task, metric, of_task in values
    ]
    shown = table(["%", *(GROUP_NAMES[s] for s in suffixes)], rows)
    return join(element("div", shown, class_="scroll"), _explained(results))


def comparison(results: Mapping[str, Any], chosen: str | None) -> Markup:
    """A row for every ensemble that was scored on the same masks, the best of each column in bold; nothing where only
    one was scored.

    Args:
        chosen: the ensemble that the rest of the page is about.
    """
    compared = results.get("compare") or {}
    if len(compared) < 2:
        return Markup("")
    # Ensembles are compared on the first task alone.
    first = ((results.get("dataset") or {}).get("tasks") or [])[:1]
    columns: dict[str, tuple[str, Column]] = {}
    for task in [task for task in registered_tasks() if task.key in first] or registered_tasks():
        for column in (column for metric in task.metrics for column in metric.columns):
            if any(column.key in values for values in compared.values()):
                columns.setdefault(column.key, (task.result, column))
    best = {key: _highest([values.get(key) for values in compared.values()]) for key in columns}
    rows = [
        element(
            "tr",
            element("th", name, element("span", " this page", class_="faint") if name == chosen else None, **_ROW),
            *(
                _cell(values.get(c.key), best[c.key], c.places, _interval(results, of, name, c.key))
                for of, c in columns.values()
            ),
        )
        for name, values in compared.items()
    ]
    heads = [column.heading for _, column in columns.values()]
    return join(
        element("h3", "Ensembles on the same masks"),
        element("div", table(["ensemble", *heads], rows, sortable=True), class_="scroll"),
        element("p", "The best of each column is bold; “this page” marks the ensemble that all else here is about."),
    )


def differences(results: Mapping[str, Any]) -> Markup:
    """Paired differences of each ensemble to the best one with their intervals; nothing where there are none."""
    bootstrap = results.get("bootstrap") or {}
    best, found = bootstrap.get("best") or {}, bootstrap.get("differences") or {}
    columns = [
        column
        for task in registered_tasks()
        if task.result == _WITH_INTERVALS
        for metric in task.metrics
        for column in metric.columns
        if column.key in best
    ]
    if not found or not columns:
        return Markup("")
    rows = [
        element("tr", element("th", name, **_ROW), *(_difference(of.get(c.key), best[c.key] == name) for c in columns))
        for name, of in found.items()
    ]
    explained = (
        "Each ensemble minus the best of the column, both on the same images of every resample, with the 95 % "
        "interval. Where it includes 0, these images do not show that the best one is better."
    )
    return join(
        element("h3", "Differences to the best ensemble"),
        element("div", table(["ensemble", *(column.heading for column in columns)], rows), class_="scroll"),
        element("p", explained, class_="faint"),
    )


def _highest(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None and not math.isnan(value)), default=math.nan)


def _cell(value: float | None, best: float, places: int, interval: Markup | None) -> Markup:
    """A number, bold where it is the best one as far as its places show."""
    text = number(value, places)
    bold = text != "" and text == number(best, places)
    return element("td", element("b", text) if bold else text, interval, data_sort=number(value, 6))


def _difference(values: Sequence[float | None] | None, is_best: bool) -> Markup:
    if values is None:
        return element("td", "best" if is_best else "", class_="faint")
    estimate = Estimate(*(math.nan if value is None else value for value in values))
    if math.isnan(estimate.value):
        return element("td")
    zero = element("span", "includes 0", class_="range") if estimate.includes_zero else None
    return element("td", tenths(estimate.value, "+").replace("-", "−"), _range(estimate.low, estimate.high), zero)


def _interval(results: Mapping[str, Any], task: str, ensemble: str | None, key: str) -> Markup | None:
    of_ensemble = ((results.get("bootstrap") or {}).get("intervals") or {}).get(ensemble) or {}
    low, high = of_ensemble.get(key, (None, None)) if task == _WITH_INTERVALS else (None, None)
    return None if low is None or high is None else _range(low, high)


def _range(low: float, high: float) -> Markup | None:
    text = f" {format_interval(low, high)}".replace("-", "−")
    return None if math.isnan(low) else element("span", text, class_="range")


def _explained(results: Mapping[str, Any]) -> Markup | None:
    bootstrap = results.get("bootstrap") or {}
    if not bootstrap.get("intervals"):
        return None
    text = f"In brackets: 95 % intervals by the percentile bootstrap over images, {bootstrap['resamples']} resamples."
    return element("p", text, class_="faint")
