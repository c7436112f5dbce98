"""What lies on the disk for one dataset, listed once, and matched: which image has which annotation files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from possam.data.datasets.spec import DatasetSpec
from possam.data.doctor.contents import Contents
from possam.utils.folders import walk
from possam.vocabulary import Vocabulary

__all__ = ["Sample", "Tree"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and its annotation files; None for a file that the dataset does not have or that is missing.

    Attributes:
        size: (width, height) as the annotation file says, or None where none says it.
        segments: ids of the segments that the annotation file lists for the panoptic PNG; hidden: those of them that
            need no pixel there; stated: area and box (x, y, width, height) of each, None where they are not checked.
    """

    image: Path | None
    size: tuple[int, int] | None = None
    label_map: Path | None = None
    panoptic: Path | None = None
    segments: tuple[int, ...] = ()
    hidden: frozenset[int] = frozenset()
    stated: tuple[tuple[float | None, tuple[float, ...] | None], ...] = ()


class Tree:
    """The files of one dataset under a root.

    Attributes:
        contents: what the annotation file that lists the images says, or None: there is none, or it is unreadable.
    """

    def __init__(self, *, spec: DatasetSpec, root: Path, option: str = "") -> None:
        """
        Args:
            root: the folder of all datasets.
            option: what the commands of the fixes need besides the names, such as " --root /data".
        """
        self.spec = spec
        self.root = root
        self.contents: Contents | None = None
        self._prepare = f"Run: possam data prepare {spec.preparation}{option}" if spec.preparation else ""
        self._listings: dict[Path, frozenset[str]] = {}

    # ---------------------------------------------------------------- what fixes it

    @property
    def fix_all(self) -> str:
        """For files that come from elsewhere: the download, and the preparation if there is one."""
        return " ".join(part for part in (self.spec.source, self._prepare) if part)

    @property
    def fix_prepared(self) -> str:
        """For annotation files that are missing: the preparation, or the download of what needs none."""
        return self._prepare or self.spec.source

    @property
    def fix_wrong(self) -> str:
        """For annotation files that are there and wrong: the preparation leaves alone what looks whole."""
        return f"{self._prepare} --overwrite" if self._prepare else self.spec.source

    # ---------------------------------------------------------------- what should be there

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return self.spec.load_table()

    @cached_property
    def things(self) -> Vocabulary:
        return self.vocabulary if self.spec.things_only else self.vocabulary.things()

    @property
    def image_folder(self) -> Path:
        return self.root / self.spec.image_folder

    @property
    def annotation_paths(self) -> tuple[Path, ...]:
        """Files and folders of all annotations, the one that lists the images first."""
        spec = self.spec
        panoptic = (spec.panoptic.json, spec.panoptic.folder) if spec.panoptic else ()
        instances = (spec.instances.json,) if spec.instances else ()
        semantic = (spec.semantic.folder,) if spec.semantic else ()
        return tuple(self.root / place for place in (*panoptic, *instances, *semantic))

    @property
    def own_images(self) -> bool:
        """Whether all images of the image folder belong to this dataset."""
        return self.spec.image_names != "coco_url"

    # ---------------------------------------------------------------- what is there

    def has(self, path: Path) -> bool:
        """Whether a file is there, from one listing of its folder: a question a file is slow on a network disk."""
        if path.parent not in self._listings:
            names = os.listdir(path.parent) if os.path.isdir(path.parent) else []  # False for a name that is too long
            self._listings[path.parent] = frozenset(names)
        return path.name in self._listings[path.parent]

    @cached_property
    def images(self) -> dict[str, Path]:
        """Images in the image folder and below: path in the folder without the suffix → file."""
        return dict(sorted(_walk(self.image_folder, self.spec.image_suffix)))

    @cached_property
    def label_maps(self) -> dict[str, Path]:
        """Label maps, under the same keys as their images."""
        semantic = self.spec.semantic
        return dict(sorted(_walk(self.root / semantic.folder, semantic.suffix))) if semantic else {}

    def label_map_of(self, image: Path) -> Path | None:
        """Where the label map of an image lies, or should lie; None where the dataset or the image's place has none."""
        semantic = self.spec.semantic
        if semantic is None or not image.is_relative_to(self.image_folder):
            return None
        key = image.relative_to(self.image_folder).as_posix().removesuffix(self.spec.image_suffix)
        return self.root / semantic.folder / f"{key}{semantic.suffix}"

    @cached_property
    def wanted(self) -> list[Sample]:
        """Every image with all its annotation files, there or not, in a fixed order."""
        if self.contents is None:
            keys = sorted(self.images.keys() | self.label_maps.keys())
            images = [self.image_folder / f"{key}{self.spec.image_suffix}" for key in keys]
            return [Sample(image=image, label_map=self.label_map_of(image)) for image in images]
        samples = []
        for image_id, entry in self.contents.images.items():
            png = self.contents.panoptic.get(image_id)
            samples.append(
                Sample(
                    image=entry.path,
                    size=entry.size,
                    label_map=self.label_map_of(entry.path),
                    panoptic=self.root / self.spec.panoptic.folder / png.name if self.spec.panoptic and png else None,
                    segments=png.segments if png else (),
                    hidden=png.hidden if png else frozenset(),
                    stated=png.stated if png else (),
                )
            )
        return samples

    @cached_property
    def samples(self) -> list[Sample]:
        """`wanted` with None for every file that is missing."""

        def there(path: Path | None) -> Path | None:
            return path if path and self.has(path) else None

        return [
            replace(
                sample,
                image=there(sample.image),
                label_map=there(sample.label_map),
                panoptic=there(sample.panoptic),
            )
            for sample in self.wanted
        ]


def _walk(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    for place, names in walk(folder, refused=lambda error: None):
        for name in names:
            # Files such as ._1.jpg are a Mac's notes about 1.jpg, no pictures.
            if name.endswith(suffix) and not name.startswith("."):
                path = place / name
                yield path.relative_to(folder).as_posix().removesuffix(suffix), path
