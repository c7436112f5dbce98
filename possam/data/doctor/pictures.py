"""Checks of pictures: of every file the header, and of some or all the pixels.

Shapes: H×W the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from possam.data.datasets.spec import SemanticFiles
from possam.data.doctor.problem import Problem, gather
from possam.data.doctor.tree import Sample
from possam.data.id_maps import areas_and_boxes, distinct, index_ids, rgb_to_id, runs
from possam.data.pictures import decode_rgb, is_turned

__all__ = [
    "CONTENT_CHECKS",
    "HEADER_CHECKS",
    "TRAINING_CONTENT_CHECKS",
    "TRAINING_HEADER_CHECKS",
    "Check",
    "Rules",
    "examine_samples",
    "label_values",
]

_IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_LABEL_MODES = {"uint8": ("L", "P"), "uint16": ("I;16", "I;16B", "I;16L", "I")}
_LABEL_MODES["any width"] = ("1", *_LABEL_MODES["uint8"], *_LABEL_MODES["uint16"])
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
# Stated areas and boxes may differ from the pixels by this: a box by pixels, an area by pixels or a share.
_BOX_SLACK, _AREA_SLACK, _AREA_SHARE = 5, 16, 0.02
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the pictures of a dataset have to follow.

    Attributes:
        semantic: how the label maps are stored, None where there are none; classes: how many there are.
        fix_all, fix_wrong: what to do about images, about annotation files.
    """

    semantic: SemanticFiles | None
    classes: int
    fix_all: str
    fix_wrong: str

    def allows(self, value: int) -> bool:
        """Whether a pixel of a label map may have this value."""
        return value < self.classes or (self.semantic is not None and value == self.semantic.ignore_label)


class Picture:
    """One file, opened at most once for its header and once for its pixels."""

    def __init__(self, path: Path, what: str, fix: str) -> None:
        self.path, self.what, self.fix = path, what, fix
        self.fault = ""
        self.mode, self.size, self.turned = "", (0, 0), False
        try:
            with Image.open(path) as picture:
                self.mode, self.size = picture.mode, picture.size
                # Annotations are read as they are stored. Of a PNG, all pixels are decoded to look for late EXIF.
                if what == "image" and (picture.format != "PNG" or "exif" in picture.info):
                    self.turned = is_turned(picture)
            if not _ends_well(path):
                _ = self.pixels  # an unusual end is a fault only where the pixels do not decode
        except Exception as error:  # Pillow raises a dozen types for damaged files
            self.fault = _reason(path, error)

    @cached_property
    def pixels(self) -> NDArray[np.generic] | None:
        """The pixels, H×W or H×W×channels: of an image as a model gets them, of an annotation as they are stored.

        None where they do not decode, see `fault`.
        """
        try:
            if self.what == "image":
                return decode_rgb(self.path)
            with Image.open(self.path) as picture:
                return np.asarray(picture)
        except Exception as error:
            self.fault = _reason(self.path, error)
            return None

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) as the picture is shown, turned by its EXIF orientation."""
        return (self.size[1], self.size[0]) if self.turned else self.size

    def problem(self, kind: str, what: str, detail: str, values: frozenset[int] = frozenset()) -> Problem:
        return Problem(
            kind=kind, where=str(self.path), what=what, fix=self.fix, details=(detail,), values=values
        )


class Pictures:
    """The pictures of one sample; None for one that is not there."""

    def __init__(self, sample: Sample, rules: Rules) -> None:
        def open_(path: Path | None, what: str, fix: str) -> Picture | None:
            return Picture(path, what, fix) if path else None

        self.sample = sample
        self.image = open_(sample.image, "image", rules.fix_all)
        self.label_map = open_(sample.label_map, "label map", rules.fix_wrong)
        self.panoptic = open_(sample.panoptic, "panoptic PNG", rules.fix_wrong)

    @property
    def all(self) -> list[Picture]:
        return [picture for picture in (self.image, self.label_map, self.panoptic) if picture]


def check_decodes(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """Every file is a whole picture."""
    for picture in pictures.all:
        if picture.fault:
            what = f"{picture.what}s do not decode"
            yield picture.problem("decoding", what, f"{picture.path.name}: {picture.fault}")


def check_sizes(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """Image, label map, panoptic PNG and annotation file agree on the size."""
    readable = [picture for picture in pictures.all if picture.size != (0, 0)]
    sizes = {picture.what: picture.shown for picture in readable}
    if pictures.sample.size:
        sizes["JSON"] = pictures.sample.size
    if len(set(sizes.values())) > 1:
        image = pictures.image
        turned = " (turned by its EXIF orientation)" if image and image.turned else ""
        named = ", ".join(
            f"{what} {width}×{height}{turned if what == 'image' else ''}" for what, (width, height) in sizes.items()
        )
        reference = pictures.sample.size or readable[0].shown
        wrong = next(picture for picture in readable if picture.shown != reference)
        what = "sizes differ between an image and its annotation (width×height)"
        yield wrong.problem("sizes", what, f"{wrong.path.name}: {named}")


def check_image_mode(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """An image is a color or gray picture of 8 bits."""
    image = pictures.image
    if image and image.mode and image.mode not in _IMAGE_MODES:
        what = "images are not 8-bit color or gray pictures"
        yield image.problem("mode", what, f"{image.path.name}: mode {image.mode}")


def check_label_mode(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """A label map has one channel of the dataset's number type."""
    picture = pictures.label_map
    if picture and picture.mode and rules.semantic and picture.mode not in _LABEL_MODES[rules.semantic.dtype]:
        what = f"label maps must have one channel of {rules.semantic.dtype}"
        yield picture.problem("mode", what, f"{picture.path.name}: {_MODE_WORDS.get(picture.mode, picture.mode)}")


def check_panoptic_mode(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """A panoptic PNG holds ids as RGB."""
    picture = pictures.panoptic
    if picture and picture.mode and picture.mode not in ("RGB", "RGBA"):
        what = "panoptic PNGs must be RGB (id = R + 256·G + 256²·B)"
        yield picture.problem("mode", what, f"{picture.path.name}: {_MODE_WORDS.get(picture.mode, picture.mode)}")


def check_image_content(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """All pixels of the files decode; `check_decodes` has told of those whose end is missing."""
    for picture in pictures.all:
        if not picture.fault and picture.pixels is None:
            what = f"{picture.what}s do not decode"
            yield picture.problem("decoding", what, f"{picture.path.name}: {picture.fault}")


def check_label_values(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """Label maps hold classes, or the ignored value."""
    picture = pictures.label_map
    if picture is None or rules.semantic is None or picture.mode not in _LABEL_MODES[rules.semantic.dtype]:
        return
    counts = label_values(picture)
    bad = {value: count for value, count in counts.items() if not rules.allows(value)}
    if bad:
        what = f"label maps hold values other than 0…{rules.classes - 1} and {rules.semantic.ignore_label} (ignored)"
        named = ", ".join(f"{value} ({count:,} pixels)" for value, count in list(bad.items())[:4])
        yield picture.problem("values", what, f"{picture.path.name}: {named}", frozenset(bad))


def check_panoptic_ids(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """A panoptic PNG holds the ids that the JSON lists for it, and 0 (void)."""
    picture = pictures.panoptic
    if picture is None or picture.mode not in ("RGB", "RGBA") or picture.pixels is None:
        return
    rgb = np.ascontiguousarray(picture.pixels[..., :3], dtype=np.uint8)
    found = set(distinct(rgb_to_id(rgb)).tolist()) - {0}
    listed = set(pictures.sample.segments)
    for what, ids in (
        ("panoptic PNGs hold segment ids that the JSON does not list", found - listed),
        ("panoptic PNGs lack segment ids that the JSON lists", listed - found - pictures.sample.hidden),
    ):
        if ids:
            shown = ", ".join(map(str, sorted(ids)[:4])) + (", …" if len(ids) > 4 else "")
            yield picture.problem("segment ids", what, f"{picture.path.name}: {shown}")


def check_panoptic_measures(pictures: Pictures, rules: Rules) -> Iterator[Problem]:
    """Areas and boxes of the JSON are those of the PNG's segments; of stuff, which instances may cover, or more."""
    picture, sample = pictures.panoptic, pictures.sample
    if not sample.stated or picture is None or picture.mode not in ("RGB", "RGBA") or picture.size != sample.size:
        return
    if picture.pixels is None:
        return
    ids = rgb_to_id(np.ascontiguousarray(picture.pixels[..., :3], dtype=np.uint8))
    starts, pixels = runs(ids)
    index = np.maximum(index_ids(ids.take(starts), sample.segments), 0)
    areas, boxes = areas_and_boxes(index, starts, pixels, width=ids.shape[1], count=len(sample.segments))
    for number, (stated_area, stated_box) in enumerate(sample.stated):
        area, box, covered = areas[number], boxes[number], sample.segments[number] in sample.hidden
        if not area:
            continue
        name = f"{picture.path.name}: segment {sample.segments[number]}"
        slack = max(_AREA_SLACK, _AREA_SHARE * area)
        if stated_area is not None and not -slack <= stated_area - area <= (np.inf if covered else slack):
            what = "areas in the JSON are not those of the panoptic PNGs (pixels)"
            yield picture.problem("areas", what, f"{name}: {stated_area:g}, found {area:,}")
        if stated_box is not None and not (_encloses(stated_box, box) and (covered or _encloses(box, stated_box))):
            what = "boxes in the JSON are not those of the panoptic PNGs (x, y, width, height)"
            yield picture.problem("boxes", what, f"{name}: {list(stated_box)}, found {box}")


def _encloses(outer: Sequence[float], inner: Sequence[float]) -> bool:
    """Whether a box XYWH lies in another one, a few pixels aside."""
    return all(
        outer[axis] - _BOX_SLACK <= inner[axis]
        and inner[axis] + inner[axis + 2] <= outer[axis] + outer[axis + 2] + _BOX_SLACK
        for axis in (0, 1)
    )


Check = Callable[[Pictures, Rules], Iterator[Problem]]
HEADER_CHECKS: tuple[Check, ...] = (
    check_decodes,
    check_sizes,
    check_image_mode,
    check_label_mode,
    check_panoptic_mode,
)
CONTENT_CHECKS: tuple[Check, ...] = (
    check_image_content,
    check_label_values,
    check_panoptic_ids,
    check_panoptic_measures,
)
# What training refuses. Annotations are decoded first, so that `check_decodes` tells of those that do not.
TRAINING_HEADER_CHECKS: tuple[Check, ...] = (check_decodes, check_sizes, check_label_mode, check_panoptic_mode)
TRAINING_CONTENT_CHECKS: tuple[Check, ...] = (check_label_values, check_panoptic_ids, *TRAINING_HEADER_CHECKS)
_MODE_WORDS = {
    "RGB": "a color picture (RGB)",
    "RGBA": "a color picture (RGBA)",
    "L": "one channel of uint8",
    "P": "one channel of uint8 with a palette",
    "1": "one bit a pixel",
    "I;16": "one channel of uint16",
    "I": "one channel of int32",
}


def examine_samples(samples: list[Sample], rules: Rules, checks: tuple[Check, ...]) -> list[Problem]:
    """Run checks on samples, one after the other."""
    problems: list[Problem] = []
    for sample in samples:
        pictures = Pictures(sample, rules)
        problems += [problem for check in checks for problem in check(pictures, rules)]
    return gather(problems)


def label_values(picture: Picture) -> dict[int, int]:
    """How often each value occurs in a label map of one channel; nothing where it does not decode."""
    if picture.pixels is None:
        return {}
    values, counts = np.unique(picture.pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _ends_well(path: Path) -> bool:
    """Whether a PNG or JPEG has the end that its format asks for, which a truncated download has not."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(-min(8, len(start)), 2)
        end = file.read()
    if start.startswith(_PNG_START):
        return end == _PNG_END
    return not start.startswith(_JPEG_START) or end.endswith(_JPEG_END)


def _reason(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"it is a link to {path.readlink()}, which is not there" if path.is_symlink() else "it is gone"
    if path.stat().st_size == 0:
        return "the file is empty"
    return "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
