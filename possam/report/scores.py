"""The first sections of a page: headline numbers, all metrics by group of classes, and the ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.tasks import Column, registered_tasks
from possam.report.markup import Markup, element, join

__all__ = ["cards", "comparison", "metrics_table", "number", "table"]

_CARDS = ("", "_seen", "_unseen")  # groups of classes that the first metric of a task has a card for


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
    found = [
        (number((results.get(task.result) or {}).get(column.key), column.places), column.heading)
        for task in registered_tasks()
        for column in task.metrics[0].columns
        if column.key.removeprefix(task.metrics[0].key) in _CARDS
    ]
    shown = [
        element("div", element("b", value), element("span", text), class_="card") for value, text in found if value
    ]
    return element("div", *shown, class_="cards")


def metrics_table(results: Mapping[str, Any]) -> Markup:
    """Metrics (rows) over all, thing, stuff, seen and unseen classes (columns), in percent."""
    values = [
        (metric, results[task.result])
        for task in registered_tasks()
        for metric in task.metrics
        if metric.percent and metric.key in (results.get(task.result) or {})
    ]
    suffixes = [s for s in GROUP_NAMES if any(metric.key + s in of_task for metric, of_task in values)]
    rows = [
        element(
            "tr",
            element(
                "th", metric.heading, element("span", f" {metric.text}", class_="faint"), class_="word", scope="row"
            ),
            *(element("td", number(of_task.get(metric.key + suffix), metric.places)) for suffix in suffixes),
        )
        for metric, of_task in values
    ]
    return element("div", table(["%", *(GROUP_NAMES[s] for s in suffixes)], rows), class_="scroll")


def comparison(results: Mapping[str, Any], chosen: str | None) -> Markup:
    """A row for every ensemble that was scored on the same masks; nothing where only one was."""
    compared = results.get("compare") or {}
    if len(compared) < 2:
        return Markup("")
    # Ensembles are compared on the first task alone.
    first = ((results.get("dataset") or {}).get("tasks") or [])[:1]
    columns: dict[str, Column] = {}
    for task in [task for task in registered_tasks() if task.key in first] or registered_tasks():
        for column in (column for metric in task.metrics for column in metric.columns):
            if any(column.key in values for values in compared.values()):
                columns.setdefault(column.key, column)
    rows = [
        element(
            "tr",
            element("th", name, class_="word", scope="row"),
            *(element("td", number(values.get(c.key), c.places)) for c in columns.values()),
            class_="chosen" if name == chosen else None,
        )
        for name, values in compared.items()
    ]
    heads = [column.heading for column in columns.values()]
    return join(
        element("h3", "Ensembles on the same masks"),
        element("div", table(["ensemble", *heads], rows, sortable=True), class_="scroll"),
    )
