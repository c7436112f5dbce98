"""The sections about classes: what became of their segments, PQ of each, and which is taken for which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.report.charts import bar, stacked
from possam.report.markup import Markup, element, join
from possam.report.review import Confusion
from possam.report.scores import number, table

__all__ = ["class_table", "confusion_matrix", "confusion_table", "fate_bars"]

_FATES = {"right": "found and named right", "misnamed": "found, named otherwise", "missed": "not found"}
_MATRIX = 26  # classes that a matrix can show on a screen

Groups = Mapping[str, NDArray[np.bool_]]


def fate_bars(fates: Mapping[str, NDArray[np.int64]], groups: Groups) -> Markup:
    """One bar a group of classes: shares of annotated segments by what became of them."""
    rows = []
    for name, group in groups.items():
        counts = {fate: int(table[group].sum()) for fate, table in fates.items()}
        total = sum(counts.values())
        if not total:
            continue
        parts = [(fate, count / total, f"{count} {_FATES[fate]}") for fate, count in counts.items()]
        shares = [element("td", f"{100 * count / total:.1f} %") for count in counts.values()]
        cells = (element("th", name, class_="word short", scope="row"), element("td", stacked(parts)))
        rows.append(element("tr", *cells, *shares, element("td", total)))
    keys = [element("span", element("span", class_=f"key {fate}"), text) for fate, text in _FATES.items()]
    return join(
        element("div", *keys, class_="keys"),
        element("div", table(["classes", "", "right", "misnamed", "missed", "segments"], rows), class_="scroll"),
    )


def class_table(
    rows: Sequence[Mapping[str, Any]],
    fates: Mapping[str, NDArray[np.int64]] | None,
    *,
    seen: Sequence[bool] | None,
    isthing: Sequence[bool],
) -> Markup:
    """One row a class, which can be sorted by any column and restricted to a group.

    Args:
        rows: of panoptic_quality.json.
        fates: see `possam.report.review.fates`; None where there are no predictions to look at.
    """
    heads = ["class", "kind", *(["in training"] if seen is not None else []), "PQ", "", "SQ", "RQ", "TP", "FP", "FN"]
    heads += ["misnamed", "missed"] if fates is not None else []
    body = [_class_row(k, row, fates, seen, isthing[k]) for k, row in enumerate(rows)]
    shown = ["all", "things", "stuff"] + (["seen", "unseen"] if seen is not None else [])
    buttons = [
        element(
            "button", name, type="button", data_show="" if name == "all" else name, aria_pressed=_flag(name == "all")
        )
        for name in shown
    ]
    return join(
        element("div", *buttons, class_="choices", data_table="class-rows"),
        element(
            "div",
            table(heads, body, words=3 if seen is not None else 2, id_="class-rows", sortable=True),
            class_="long",
        ),
    )


def _class_row(
    k: int,
    row: Mapping[str, Any],
    fates: Mapping[str, NDArray[np.int64]] | None,
    seen: Sequence[bool] | None,
    isthing: bool,
) -> Markup:
    kind, known = "thing" if isthing else "stuff", None if seen is None else "seen" if seen[k] else "unseen"
    groups = f"{'things' if isthing else 'stuff'} {known or ''}".strip()
    quality = row["PQ"]
    cells = [element("td", row["name"], class_="word"), element("td", kind, class_="word short")]
    if known is not None:
        cells.append(element("td", known, class_="word short" + (" tag" if known == "unseen" else "")))
    cells.append(element("td", number(quality)))
    sort = number(quality, 4)
    cells.append(element("td", bar((quality or 0) / 100, known or ""), data_sort=sort))
    cells += [element("td", number(row[metric])) for metric in ("SQ", "RQ")]
    cells += [element("td", row[metric]) for metric in ("TP", "FP", "FN")]
    if fates is not None:
        cells += [element("td", int(fates[fate][k])) for fate in ("misnamed", "missed")]
    return element("tr", *cells, data_groups=groups)


def confusion_table(
    found: Sequence[Confusion],
    names: Sequence[str],
    *,
    seen: Sequence[bool] | None,
    thumbs: Callable[[Confusion], Sequence[str]],
    limit: int = 25,
    with_thumbs: int = 12,
) -> Markup:
    """The most frequent confusions, with crops of segments they happened to.

    Args:
        thumbs: data URIs of a confusion's examples.
        with_thumbs: how many of the rows have crops, which make the page large.
    """
    most = max((confusion.count for confusion in found), default=1)
    rows = []
    for place, confusion in enumerate(found[:limit]):
        share = confusion.count / confusion.of
        title = f"{names[confusion.category]}, taken for {names[confusion.named]}"
        pictures = thumbs(confusion) if place < with_thumbs else ()
        images = [element("img", src=uri, alt=title) for uri in pictures]
        rows.append(
            element(
                "tr",
                element("td", names[confusion.category], _unseen(confusion.category, seen), class_="word"),
                element("td", names[confusion.named], _unseen(confusion.named, seen), class_="word"),
                element("td", confusion.count),
                element("td", bar(confusion.count / most, "misnamed"), data_sort=confusion.count),
                element("td", f"{100 * share:.0f} %", data_sort=number(share, 4)),
                element("td", element("div", *images, class_="thumbs") if images else ""),
            )
        )
    heads = ["annotated as", "named", "times", "", "of its segments", ""]
    more = f"The {limit} most frequent of {len(found)} pairs." if len(found) > limit else ""
    return join(
        element("div", table(heads, rows, words=2, sortable=True), class_="scroll"),
        element("p", more, class_="faint") if more else None,
    )


def confusion_matrix(
    found: Sequence[Confusion], fates: Mapping[str, NDArray[np.int64]], names: Sequence[str]
) -> Markup:
    """Annotated (rows) by given class (columns), of the classes that are confused most, in percent of a row's
    segments; nothing where none are confused."""
    weight: dict[int, int] = {}
    for confusion in found:
        for k in (confusion.category, confusion.named):
            weight[k] = weight.get(k, 0) + confusion.count
    if not weight:
        return Markup("")
    chosen = sorted(sorted(weight, key=lambda k: -weight[k])[:_MATRIX])
    pairs = {(confusion.category, confusion.named): confusion.count for confusion in found}
    pairs |= {(k, k): int(fates["right"][k]) for k in chosen}
    heads = [element("th", element("span", names[k]), scope="col") for k in chosen]
    rows = []
    for k in chosen:
        of = sum(int(table[k]) for table in fates.values())
        cells = [_matrix_cell(pairs.get((k, other), 0), of, k == other) for other in chosen]
        rows.append(element("tr", element("th", names[k], class_="word", scope="row"), *cells))
    head = element("thead", element("tr", element("th", class_="word"), *heads))
    return element("div", element("table", head, element("tbody", *rows), class_="matrix"), class_="scroll")


def _matrix_cell(count: int, of: int, right: bool) -> Markup:
    if not count:
        return element("td")
    share = count / of
    kind = "right" if right else "misnamed"
    # No more than a third of the color, so that the page's ink stays readable on it in both themes.
    style = f"background: color-mix(in srgb, var(--{kind}) {10 + 35 * share:.0f}%, var(--paper))"
    return element("td", f"{100 * share:.0f}", style=style, title=f"{count} of {of}")


def _unseen(k: int, seen: Sequence[bool] | None) -> Markup | None:
    return element("span", " unseen", class_="tag") if seen is not None and not seen[k] else None


def _flag(value: bool) -> str:
    return "true" if value else "false"
