"""Checks of an annotation file's entries: each takes what the file says and gives the problems it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_coder

from possam.data.coco_format import FEDERATED_KEYS, misnamed_categories
from possam.data.doctor.problem import Problem
from possam.data.run_lengths import check_mask, shared_area, to_run_lengths
from possam.vocabulary import Category, Vocabulary, fold_name

__all__ = ["ANNOTATION_CHECKS", "AnnotationFile"]

# Official boxes reach a pixel or two over the edge by rounding; more is a box of another size of the image.
_BOX_SLACK = 5
# A mask shares half of its area with what is stated or more, a few pixels aside.
_SHARE, _AREA_SLACK = 0.5, 16


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """A readable annotation file, "panoptic" or "instances", and what it is checked against.

    `fix` is what to do about a wrong file, `fix_count` about one of too few or too many images.
    """

    path: Path
    kind: str
    content: Mapping[str, Any]
    vocabulary: Vocabulary
    federated: bool
    images_expected: int
    fix: str
    fix_count: str

    def problem(self, kind: str, what: str, entries: Iterable[object] = (), values: Iterable[int] = ()) -> Problem:
        """A problem of this file; `entries` are those that have it."""
        details = [str(entry) for entry in entries]
        return Problem(
            kind=kind,
            where=str(self.path),
            what=f"{self.path.name} {what}",
            fix=self.fix,
            details=tuple(details[:3]),
            values=frozenset(values),
            count=max(1, len(details)),
        )

    @property
    def annotated(self) -> set[Any]:
        """Ids of the images that have an annotation."""
        return {annotation["image_id"] for annotation in self.content["annotations"]}

    @property
    def labeled(self) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """(image id, segment or instance) of the whole file."""
        for annotation in self.content["annotations"]:
            for part in annotation["segments_info"] if self.kind == "panoptic" else (annotation,):
                yield annotation["image_id"], part


def check_count(file: AnnotationFile) -> Iterator[Problem]:
    """The number of annotated images is the official one; images without an instance count, too."""
    number = len(file.annotated if file.kind == "panoptic" else file.content["images"])
    if number != file.images_expected:
        what = f"annotates {number:,} images, {file.images_expected:,} are expected"
        yield replace(file.problem("annotated", what), fix=file.fix_count)


def check_duplicates(file: AnnotationFile) -> Iterator[Problem]:
    """Ids and names are distinct."""
    images, annotations = file.content["images"], file.content["annotations"]
    yield from _repeated(file, "image ids", (image["id"] for image in images))
    yield from _repeated(file, "image names", (i["file_name"] for i in images if "file_name" in i))
    yield from _repeated(file, "category ids", (category["id"] for category in file.content["categories"]))
    if file.kind == "panoptic":
        yield from _repeated(file, "annotated image ids", (a["image_id"] for a in annotations))
        yield from _repeated(file, "names of panoptic PNGs", (a["file_name"] for a in annotations))
        segments = ((a["image_id"], s["id"]) for a in annotations for s in a["segments_info"])
        yield from _repeated(file, "segment ids of an image", segments)
    else:
        yield from _repeated(file, "annotation ids", (a["id"] for a in annotations))


def _repeated(file: AnnotationFile, what: str, values: Iterable[Hashable]) -> Iterator[Problem]:
    repeated = [f"{value!r} {count} times" for value, count in Counter(values).items() if count > 1]
    if repeated:
        yield file.problem("duplicates", f"has {what} more than once", repeated)


def check_references(file: AnnotationFile) -> Iterator[Problem]:
    """Annotations belong to listed images, and every listed image of a panoptic file has one."""
    listed, annotated = {image["id"] for image in file.content["images"]}, file.annotated
    strangers = sorted(map(repr, annotated - listed))
    if strangers:
        yield file.problem("references", "annotates image ids that are not in its list of images", strangers)
    bare = sorted(map(repr, listed - annotated)) if file.kind == "panoptic" else []
    if bare:
        yield file.problem("references", "lists image ids without an annotation", bare)


def check_categories(file: AnnotationFile) -> Iterator[Problem]:
    """The file's own list of categories is the vocabulary's: the same ids, no name that means another class, the same
    things."""
    vocabulary, table = file.vocabulary, file.vocabulary.contiguous_id
    names = {category["id"]: str(category["name"]) for category in file.content["categories"]}
    if names.keys() != table.keys():
        extra, lacking = sorted(names.keys() - table.keys(), key=str), sorted(table.keys() - names.keys())
        what = (
            f"has {len(names)} categories with the ids {_span(names)}, but the vocabulary {vocabulary.name} has "
            f"{len(table)} with the ids {_span(table)}"
        )
        entries = [f"unknown id {i} {names[i]!r}" for i in extra] + [f"id {i} is not there" for i in lacking]
        yield file.problem("categories", what, entries, [i for i in extra if isinstance(i, int)])
    wrong = misnamed_categories(file.content["categories"], vocabulary)
    if wrong:
        yield file.problem("category names", "gives ids to other classes than the vocabulary", wrong)
    kinds = [
        f"id {c['id']} {c['name']!r:.40} has isthing {int(c['isthing'])}, but {1 - int(c['isthing'])} is expected"
        for c in file.content["categories"]
        if file.kind == "panoptic" and c["id"] in table and _is_named(c, vocabulary.categories[table[c["id"]]])
        if bool(c["isthing"]) != vocabulary.isthing[table[c["id"]]]
    ]
    if kinds:
        yield file.problem("isthing", "has things that are stuff in the vocabulary, or the other way round", kinds)


def _is_named(entry: Mapping[str, Any], category: Category) -> bool:
    return fold_name(entry["name"]) in map(fold_name, (*category.names, category.dataset_name))


def check_category_ids(file: AnnotationFile) -> Iterator[Problem]:
    """Segments and instances have category ids of the vocabulary."""
    known = file.vocabulary.contiguous_id
    unknown = Counter(part["category_id"] for _, part in file.labeled if part["category_id"] not in known)
    if unknown:
        yield file.problem(
            "category ids",
            f"has category ids that the vocabulary {file.vocabulary.name} does not have (ids {_span(known)})",
            [f"{category} in {count:,} annotations" for category, count in sorted(unknown.items(), key=str)],
            [category for category in unknown if isinstance(category, int)],
        )


def check_geometry(file: AnnotationFile) -> Iterator[Problem]:
    """Boxes lie in their images, and masks of instances are those of the image, the box and the area that is stated."""
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in file.content["images"]}
    boxes, areas, sizes_of_runs, masks = [], [], [], []
    for image_id, part in file.labeled:
        if image_id not in sizes:
            continue
        height, width = sizes[image_id]
        where = f"annotation {part['id']}" if file.kind == "instances" else f"segment {part['id']} of {image_id!r:.80}"
        if part.get("area", 0) > height * width:
            areas.append(f"{where}: {part['area']} in an image of {width}×{height}")
        runs = part.get("segmentation")
        if "bbox" in part and not _box_in(part["bbox"], width, height):
            boxes.append(f"{where}: {part['bbox']} (XYWH) in an image of {width}×{height}")
        elif file.kind == "instances" and isinstance(runs, Mapping) and runs.get("size") != [height, width]:
            sizes_of_runs.append(f"{where}: {runs.get('size')!r:.40}, expected {[height, width]}")
        elif file.kind == "instances" and (fault := _mask_fault(part, (height, width), where)):
            masks.append(fault)
    for what, entries in (
        ("has boxes that leave their images", boxes),
        ("has areas that are larger than their images", areas),
        ("has run lengths of another size [height, width] than the image", sizes_of_runs),
        ("has masks that cover nothing, or something else than is stated", masks),
    ):
        if entries:
            yield file.problem("geometry", what, entries)


def _mask_fault(part: Mapping[str, Any], size: tuple[int, int], where: str) -> str:
    """What is wrong with an instance's mask, "" for nothing."""
    mask, box, area = part["segmentation"], part["bbox"], part["area"]
    try:
        own = check_mask(mask, size, box=box, source=where)
    except ValueError as error:
        return str(error).rstrip(".")
    if shared_area(box, own, margin=_BOX_SLACK) < _SHARE * own[2] * own[3]:
        return f"{where} has the bbox {box}, but its mask lies in {list(own)} (XYWH)"
    # The field's areas of polygons are exact, and those of their pixels differ where they cross themselves.
    for found in _areas(mask, size, where):
        if _SHARE * area - _AREA_SLACK <= found <= area / _SHARE + _AREA_SLACK:
            return ""
    return f"{where} has the area {area}, but its mask covers {found:g} pixels"


def _areas(mask: Any, size: tuple[int, int], where: str) -> Iterator[float]:
    if not isinstance(mask, Mapping):
        yield sum(abs(_twice_the_area(polygon)) for polygon in mask) / 2
    yield int(mask_coder.area(to_run_lengths(mask, size, source=where)))


def _twice_the_area(polygon: list[float]) -> float:
    xs, ys = polygon[::2], polygon[1::2]
    return sum(x * v - u * y for x, y, u, v in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True))


def check_federated(file: AnnotationFile) -> Iterator[Problem]:
    """A federated file says which classes of an image are known to be absent or not exhaustively annotated."""
    if not file.federated:
        return
    images, known = file.content["images"], file.vocabulary.contiguous_id
    bare = [f"image {image['id']!r}" for image in images if any(key not in image for key in FEDERATED_KEYS)]
    if bare:
        what = f"has images without {' or '.join(FEDERATED_KEYS)}: no LVIS annotation"
        yield file.problem("federated", what, bare)
    unknown = [
        f"{category} in image {image['id']!r}"
        for image in images
        for key in FEDERATED_KEYS
        for category in image.get(key, ())
        if category not in known
    ]
    if unknown:
        yield file.problem("federated", f"has ids in {' or '.join(FEDERATED_KEYS)} that are no category's", unknown)


ANNOTATION_CHECKS: tuple[Callable[[AnnotationFile], Iterator[Problem]], ...] = (
    check_count,
    check_duplicates,
    check_references,
    check_categories,
    check_category_ids,
    check_geometry,
    check_federated,
)


def _box_in(box: Any, width: int, height: int) -> bool:
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)):
        return False
    x, y, w, h = box
    inside = x + w <= width + _BOX_SLACK and y + h <= height + _BOX_SLACK
    return inside and min(x, y) >= -_BOX_SLACK and min(w, h) >= 0


def _span(ids: Iterable[Any]) -> str:
    ordered = sorted(ids, key=lambda i: (not isinstance(i, int), i if isinstance(i, int) else 0, str(i)))
    return f"{ordered[0]}…{ordered[-1]}" if ordered else "none"
