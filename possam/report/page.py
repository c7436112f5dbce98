"""The whole page, from what an evaluation left on disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.progress import track

from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.panoptic_quality import PanopticCounts
from possam.report import charts
from possam.report.cases import case, pick
from possam.report.classes import class_table, confusion_matrix, confusion_table, fate_bars
from possam.report.links import file_link
from possam.report.markup import Markup, element, join
from possam.report.pictures import crop, data_uri, panels
from possam.report.review import Confusion, ImageReview, confusions, fates
from possam.report.scores import cards, comparison, differences, metrics_table, number, table
from possam.report.source import EvaluationFolder
from possam.report.style import SCRIPT, STYLE

__all__ = ["build_page"]

logger = logging.getLogger(__name__)

_SAME = 0.05  # percent of PQ within which two computations of it agree


def build_page(
    source: EvaluationFolder, *, folder: str | Path | None = None, images: int = 6, progress: bool = True
) -> str:
    """The report as an HTML document.

    Args:
        folder: where the document will be, from which its links to files go; by default that of the evaluation.
        images: how many of the best and of the worst to show.
        progress: whether to show a bar while images are compared.
    """
    reviews = [
        source.review(image_id)
        for image_id in track(source.predictions, "Comparing images", transient=True, disable=not progress)
    ]
    sections = [_scores(source, reviews)]
    if reviews:
        sections += [_segments(source, reviews), _classes(source, reviews), _confusions(source, reviews)]
        where = Path(folder) if folder is not None else source.folder
        sections += [_calibration(source, reviews), _cases(source, reviews, images, where)]
    elif source.class_rows:
        sections.append(_classes(source, None))
    sections.append(_origin(source))
    name = source.ground_truth.name
    links = [element("a", anchor.capitalize(), href=f"#{anchor}") for anchor, _, _ in sections]
    body = element(
        "body",
        element("h1", f"Evaluation on {name}"),
        element("p", _subtitle(source, reviews), class_="faint"),
        element("nav", *links, aria_label="sections"),
        *(element("section", element("h2", title), content, id=anchor) for anchor, title, content in sections),
        element("script", Markup(SCRIPT)),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Evaluation on {name}"),
        element("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


Section = tuple[str, str, Markup]  # the name in its address, its title, its content


def _subtitle(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> str:
    about, made = source.results.get("dataset") or {}, source.results.get("provenance") or {}
    images = about.get("images") or len(reviews)
    classes = len(source.vocabulary)
    parts = [f"{images} images" if images else "", f"{classes} classes"]
    if source.seen is not None:
        parts[-1] += f", {sum(source.seen)} of them seen in training"
    parts += [f"ensemble {ensemble}" if (ensemble := _ensemble(source)) else "", made.get("date") or ""]
    return " · ".join(part for part in parts if part)


def _ensemble(source: EvaluationFolder) -> str | None:
    made = (source.results.get("provenance") or {}).get("ensemble") or {}
    configured = ((source.config or {}).get("MODEL") or {}).get("ENSEMBLE") or {}
    return made.get("name") or configured.get("NAME")


def _scores(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> Section:
    results, ensemble = source.results, _ensemble(source)
    content = join(
        _warning(source, reviews),
        cards(results, ensemble),
        metrics_table(results, ensemble),
        comparison(results, ensemble),
        differences(results),
    )
    return "scores", "Scores", content


def _warning(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> Markup | None:
    """A note where the predictions on disk are not those that were scored."""
    written = (source.results.get("panoptic_seg") or {}).get("PQ")
    if not reviews or written is None:
        return None
    counts = PanopticCounts.total((review.counts for review in reviews), len(source.vocabulary))
    found = counts.summary({"": np.ones(len(source.vocabulary), dtype=bool)})["PQ"]
    if abs(found - written) <= _SAME:
        return None
    text = (
        f"The predictions in this folder have a PQ of {found:.2f} against the annotation as it is now, but "
        f"results.json says {written:.2f}. One of them has changed since; evaluate again."
    )
    logger.warning("%s: %s", source.folder, text)
    return element("p", text, class_="note")


def _groups(source: EvaluationFolder) -> dict[str, NDArray[np.bool_]]:
    things = np.array(source.vocabulary.isthing, dtype=bool)
    groups = {"": np.ones_like(things)}
    if source.seen is not None:
        seen = np.array(source.seen, dtype=bool)
        groups |= {"_seen": seen, "_unseen": ~seen}
    groups |= {"_th": things, "_st": ~things}
    return {GROUP_NAMES[suffix]: group for suffix, group in groups.items()}


def _segments(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> Section:
    explained = (
        "Every annotated segment is found where a predicted one has an IoU over 0.5 with it, whatever its name. So "
        "what is lost by masks (not found) stands apart from what is lost by names (named otherwise)."
    )
    bars = fate_bars(fates(reviews, len(source.vocabulary)), _groups(source))
    return "segments", "What became of the annotated segments", join(element("p", explained), bars)


def _classes(source: EvaluationFolder, reviews: Sequence[ImageReview] | None) -> Section:
    table_of = fates(reviews, len(source.vocabulary)) if reviews is not None else None
    content = class_table(source.class_rows, table_of, seen=source.seen, isthing=source.vocabulary.isthing)
    return "classes", "Panoptic quality of each class", content


def _confusions(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> Section:
    found = confusions(reviews)
    names = source.vocabulary.display_names
    if not found:
        return "confusions", "Confusions", element("p", "No segment that was found has a wrong name.")

    def thumbs(confusion: Confusion) -> list[str]:
        return [_example(source, image_id, segment) for image_id, segment in confusion.examples]

    note = "In percent of the segments that are annotated as the class of the row; the columns are the names they got."
    return (
        "confusions",
        "Confusions",
        join(
            confusion_table(found, names, seen=source.seen, thumbs=thumbs),
            element("h3", "The classes that are confused most"),
            element("p", note, class_="faint"),
            confusion_matrix(found, fates(reviews, len(names)), names),
        ),
    )


def _example(source: EvaluationFolder, image_id: Any, segment: int) -> str:
    index, segments = source.truth(image_id)
    return data_uri(crop(source.image(image_id), index == segment + 1, segments[segment]["category_id"]))


def _calibration(source: EvaluationFolder, reviews: Sequence[ImageReview]) -> Section:
    title = "Calibration of the predicted IoU"
    ious = np.concatenate([np.zeros((0, 2)), *(review.ious for review in reviews)])
    if not len(ious):
        text = "The predictions in this folder do not say what IoU was expected of their segments; evaluate again."
        return "calibration", title, element("p", text, class_="note")
    bias = float((ious[:, 0] - ious[:, 1]).mean())
    rho = (source.results.get("iou_head") or {}).get("spearman_segments")
    rows = [
        ("segments", str(len(ious))),
        *([("rank correlation, Spearman’s ρ", number(rho, 3))] if number(rho) else []),
        ("calibration error", number(charts.calibration_error(ious), 3)),
        ("mean absolute error", number(float(np.abs(ious[:, 0] - ious[:, 1]).mean()), 3)),
        ("predicted − true, mean", f"{bias:+.3f}".replace("-", "−")),
    ]
    body = [
        element("tr", element("th", name, class_="word", scope="row"), element("td", value)) for name, value in rows
    ]
    explained = (
        "Each point is a predicted segment: the IoU that the model expected of its mask, and the highest IoU that the "
        "segment has with an annotated one. The line joins the means of tenths of the predicted IoU; on the dashed "
        "line the expectation is right."
    )
    defined = (
        "ρ is the one of results.json (spearman_segments): over all queries that became segments, the rank correlation "
        "of the predicted IoU with the highest IoU of the query’s whole mask, before masks compete for pixels, with an "
        "annotated segment, where pixels that are void or crowd are removed from both."
    )
    content = join(
        element("p", explained),
        element("p", defined, class_="faint") if number(rho) else None,
        element("div", charts.calibration_chart(ious), table(["", ""], body), class_="two"),
    )
    return "calibration", title, content


def _cases(source: EvaluationFolder, reviews: Sequence[ImageReview], count: int, folder: Path) -> Section:
    best, worst = pick(reviews, count)
    values = [review.pq for review in reviews if not math.isnan(review.pq)]
    names = source.vocabulary.display_names
    parts: list[object] = [
        charts.histogram(values, label="PQ of an image"),
        element("p", _spread(values), class_="faint"),
    ]
    for title, chosen in (("Worst", worst), ("Best", best)):
        if chosen:
            parts.append(element("h3", title))
        for review in chosen:
            image_id = review.image_id
            drawn = panels(source.image(image_id), source.truth(image_id), source.prediction(image_id), names)
            files = [file_link(path, folder, title) for title, path in source.files(image_id).items()]
            parts.append(case(review, drawn, names, files))
    if drawn_before := sorted((source.folder / "pictures").glob("*.png")):
        parts.append(element("h3", "Pictures that the evaluation drew"))
        parts.append(element("ul", *(element("li", file_link(path, folder)) for path in drawn_before)))
    return "images", "Images", join(*parts)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "No image has anything to be judged by."
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f"Median {middle:.1f}; a tenth of the images is below {low:.1f}, a tenth above {high:.1f}."


def _origin(source: EvaluationFolder) -> Section:
    made = source.results.get("provenance") or {}
    checkpoint = made.get("checkpoint") or {}
    rows: list[tuple[str, object]] = [
        ("date", made.get("date")),
        ("commit", made.get("commit")),
        ("seed", made.get("seed")),
        ("checkpoint", checkpoint.get("path")),
        ("checkpoint sha256", checkpoint.get("sha256")),
        ("parameters sha256", made.get("parameters")),
        *((f"frozen {part}", " ".join(map(str, of.values()))) for part, of in (made.get("frozen") or {}).items()),
        *((name, version) for name, version in (made.get("versions") or {}).items()),
    ]
    body = [
        element("tr", element("th", name, class_="word", scope="row"), element("td", value, class_="word"))
        for name, value in rows
        if value is not None
    ]
    parts: list[object] = [element("div", element("table", element("tbody", *body)), class_="scroll")] if body else []
    if source.config is not None:
        listed = yaml.safe_dump(source.config, allow_unicode=True)
        parts.append(element("details", element("summary", "Configuration"), element("pre", listed)))
    if not parts:
        parts.append(element("p", "This evaluation did not write what made it."))
    return "origin", "What made these numbers", join(*parts)
