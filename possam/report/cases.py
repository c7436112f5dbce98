"""The section of single images: the best and the worst, with what went wrong in each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from possam.report.markup import Markup, element
from possam.report.pictures import data_uri
from possam.report.review import ImageReview

__all__ = ["case", "pick"]


def pick(reviews: Sequence[ImageReview], count: int) -> tuple[list[ImageReview], list[ImageReview]]:
    """The `count` images of the highest and those of the lowest PQ, best and worst first; none is in both."""
    judged = sorted(
        (review for review in reviews if not math.isnan(review.pq)),
        key=lambda review: (review.pq, str(review.image_id)),
    )
    count = min(count, len(judged) // 2 or len(judged))
    return judged[count:][::-1][:count], judged[:count]


def case(
    review: ImageReview, pictures: Mapping[str, NDArray[np.uint8]], names: Sequence[str], files: Sequence[Markup] = ()
) -> Markup:
    """An image's panels under its PQ and links to its files, and its faults as a list."""
    figures = []
    for title, picture in pictures.items():
        height, width = picture.shape[:2]
        alt = f"{title} of image {review.image_id}"
        shown = element("img", src=data_uri(picture), alt=alt, width=width, height=height)
        figures.append(element("figure", shown, element("figcaption", title)))
    faults = _faults(review, names)
    return element(
        "div",
        element("h4", f"PQ {review.pq:.1f} · image {review.image_id}"),
        element("p", *files, class_="files") if files else None,
        element("div", *figures, class_="panels"),
        element("ul", *(element("li", fault) for fault in faults), class_="faults") if faults else None,
        class_="case",
    )


def _faults(review: ImageReview, names: Sequence[str]) -> list[str]:
    wrong = Counter((o.category, o.named) for o in review.outcomes if o.fate == "misnamed")
    missed = Counter(o.category for o in review.outcomes if o.fate == "missed")
    extra = Counter(review.extra)
    lines = [
        f"{names[category]} named {names[named]}{_times(count)}"
        for (category, named), count in wrong.items()
        if named is not None
    ]
    if missed:
        lines.append("not found: " + ", ".join(f"{names[k]}{_times(count)}" for k, count in missed.items()))
    if extra:
        lines.append("matches nothing: " + ", ".join(f"{names[k]}{_times(count)}" for k, count in extra.items()))
    return lines


def _times(count: int) -> str:
    return f" ×{count}" if count > 1 else ""
