"""Charts as inline SVG, colored by the page's style, so that they follow its light and dark themes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from possam.report.markup import Markup, element, join

__all__ = ["bar", "calibration_chart", "calibration_error", "histogram", "stacked"]

_SIDE, _LEFT, _BOTTOM, _PAD = 360, 44, 40, 10
_BINS = 10
_MOST_POINTS = 4000


def bar(share: float, kind: str = "") -> Markup:
    """A bar of `share` in [0, 1] of its cell; `kind` is a class of the style."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return element("span", element("span", class_=f"fill {kind}".strip(), style=f"width:{width}"), class_="bar")


def stacked(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """One bar of several parts: (style class, share in [0, 1], what a pointer over it says)."""
    pieces = [
        element("span", class_=f"fill {kind}", style=f"width:{100 * share:.2f}%", title=title)
        for kind, share, title in parts
        if share > 0
    ]
    return element("span", *pieces, class_="bar wide")


def histogram(values: Sequence[float], *, label: str) -> Markup:
    """How many of `values` (in percent) lie in each tenth of the scale."""
    counts, _ = np.histogram(values, bins=_BINS, range=(0, 100))
    most, width, height = max(int(counts.max(initial=0)), 1), 30, 120
    parts: list[Markup] = []
    for place, count in enumerate(counts.tolist()):
        tall = height * count / most
        x = _LEFT + place * width
        title = element("title", f"{10 * place} to {10 * place + 10}: {count}")
        box = {"x": x + 1, "y": _round(_PAD + 12 + height - tall), "width": width - 2, "height": _round(tall)}
        parts.append(element("g", title, element("rect", class_="mark", **box)))
        if count:
            parts.append(_text(x + width / 2, _PAD + 8 + height - tall, count, anchor="middle"))
    base = _PAD + 12 + height
    for tick in range(0, _BINS + 1, 2):
        parts.append(_text(_LEFT + tick * width, base + 16, 10 * tick, anchor="middle"))
    parts.append(element("line", x1=_LEFT, x2=_LEFT + _BINS * width, y1=base, y2=base, class_="axis"))
    parts.append(_text(_LEFT + _BINS * width / 2, base + 34, label, anchor="middle"))
    return _svg(_LEFT + _BINS * width + _LEFT // 2, base + 42, parts, label)


def calibration_chart(ious: NDArray[np.float64]) -> Markup:
    """Predicted against true IoU, n×2 in [0, 1]: the segments as points, and the mean of each tenth as a line."""
    rng = np.random.default_rng(0)
    shown = ious if len(ious) <= _MOST_POINTS else ious[rng.choice(len(ious), _MOST_POINTS, replace=False)]
    points = [element("circle", cx=_x(predicted), cy=_y(true), r=2, class_="dot") for predicted, true in shown.tolist()]
    means = [(predicted, true, count) for predicted, true, count in _binned(ious) if count >= max(3, 0.002 * len(ious))]
    line = " ".join(f"{_x(predicted)},{_y(true)}" for predicted, true, _ in means)
    marks = [
        element(
            "g",
            element("title", f"{count} segments: predicted {predicted:.2f}, true {true:.2f} on average"),
            element("circle", cx=_x(predicted), cy=_y(true), r=4.5, class_="mark"),
        )
        for predicted, true, count in means
    ]
    return _svg(
        _LEFT + _SIDE + _PAD,
        _SIDE + _BOTTOM + _PAD,
        [
            *_grid(),
            element("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="ideal"),
            *points,
            element("polyline", points=line, class_="mean"),
            *marks,
        ],
        "predicted against true IoU",
    )


def calibration_error(ious: NDArray[np.float64]) -> float:
    """Expected calibration error: the mean over segments of |mean predicted − mean true IoU| of their tenth of the
    predicted IoU (Guo et al. 2017, for IoU in place of accuracy); NaN without any."""
    if not len(ious):
        return float("nan")
    return float(sum(count * abs(predicted - true) for predicted, true, count in _binned(ious)) / len(ious))


def _binned(ious: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Mean predicted and mean true IoU and the number of segments of every tenth that has some."""
    tenth = (ious[:, 0] * _BINS).astype(np.int64).clip(0, _BINS - 1)
    groups = [ious[tenth == place] for place in range(_BINS)]
    return [(*group.mean(axis=0).tolist(), len(group)) for group in groups if len(group)]


def _grid() -> list[Markup]:
    parts = []
    for tick in range(0, 11, 2):
        value = tick / 10
        parts.append(element("line", x1=_x(value), x2=_x(value), y1=_y(0), y2=_y(1), class_="grid"))
        parts.append(element("line", x1=_x(0), x2=_x(1), y1=_y(value), y2=_y(value), class_="grid"))
        parts.append(_text(_x(value), _y(0) + 16, f"{value:.1f}", anchor="middle"))
        parts.append(_text(_x(0) - 6, _y(value) + 4, f"{value:.1f}", anchor="end"))
    parts.append(_text(_x(0.5), _y(0) + 34, "predicted IoU", anchor="middle"))
    turned = f"rotate(-90 12 {_y(0.5)})"
    parts.append(element("text", "true IoU", x=12, y=_y(0.5), text_anchor="middle", transform=turned))
    return parts


def _x(value: float) -> float:
    return _round(_LEFT + value * _SIDE)


def _y(value: float) -> float:
    return _round(_PAD + (1 - value) * _SIDE)


def _round(value: float) -> float:
    return round(value, 1)


def _text(x: float, y: float, text: object, *, anchor: str) -> Markup:
    return element("text", text, x=_round(x), y=_round(y), text_anchor=anchor)


def _svg(width: float, height: float, parts: Sequence[Markup], label: str) -> Markup:
    box = f"0 0 {round(width)} {round(height)}"
    return element("svg", join(*parts), viewBox=box, width=round(width), role="img", aria_label=label)
