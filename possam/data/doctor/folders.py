"""Checks of a dataset's folders: is it here, in full, and does every file have its counterpart?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from possam.data.doctor.problem import ABSENT, Problem, common_folder
from possam.data.doctor.tree import Tree
from possam.utils.messages import few

__all__ = ["FOLDER_CHECKS", "check_absent", "missing_paths"]


def missing_paths(tree: Tree) -> list[Path]:
    """The files and folders of a dataset that are not there, or empty."""
    return [place for place in (tree.image_folder, *tree.annotation_paths) if not _filled(place)]


def check_absent(tree: Tree) -> Problem | None:
    """The one problem of a dataset that is not on this machine: no images, or nothing of its main annotation."""
    missing = missing_paths(tree)
    main = tree.annotation_paths[: 2 if tree.spec.panoptic else 1]
    if tree.image_folder not in missing and any(place not in missing for place in main):
        return None
    ready = tree.image_folder not in missing and bool(tree.spec.preparation)
    names = few([place.relative_to(tree.root).as_posix() for place in missing], 2)
    return Problem(
        kind=ABSENT,
        where=str(missing[0]),
        what=f"{'not prepared' if ready else 'not there'}, {tree.root} has no {names}",
        # The preparation itself says which official files it lacks.
        fix=tree.fix_prepared if ready else tree.fix_all,
    )


def check_places(tree: Tree) -> Iterator[Problem]:
    """All files and folders that the dataset consists of are there."""
    for place in missing_paths(tree):
        what = "the folder is empty" if place.is_dir() else "does not exist"
        yield Problem(kind="missing", where=str(place), what=what, fix=tree.fix_prepared)


def check_missing_images(tree: Tree) -> Iterator[Problem]:
    """Every annotation has its image."""
    missing = [w.image for w, t in _pairs(tree) if w.image and not t.image]
    yield from _missing(tree, missing, "images of the annotation", tree.fix_all)


def check_missing_panoptic(tree: Tree) -> Iterator[Problem]:
    """Every entry of the panoptic JSON has its PNG."""
    if tree.spec.panoptic and _filled(tree.root / tree.spec.panoptic.folder):
        missing = [w.panoptic for w, t in _pairs(tree) if w.panoptic and not t.panoptic]
        yield from _missing(tree, missing, "panoptic PNGs of the JSON", tree.fix_prepared)


def check_missing_label_maps(tree: Tree) -> Iterator[Problem]:
    """Every image has its label map."""
    if tree.spec.semantic and _filled(tree.root / tree.spec.semantic.folder):
        missing = [w.label_map for w, t in _pairs(tree) if w.label_map and not t.label_map]
        yield from _missing(tree, missing, "label maps of images", tree.fix_prepared)


def _pairs(tree: Tree):
    return zip(tree.wanted, tree.samples, strict=True)


def _missing(tree: Tree, files: list[Path], what: str, fix: str) -> Iterator[Problem]:
    if files:
        yield Problem(
            kind="missing",
            where=_common(files),
            what=f"{what} are missing",
            fix=fix,
            details=tuple(path.name for path in files[:3]),
            count=len(files),
            total=len(tree.wanted),
        )


def check_counts(tree: Tree) -> Iterator[Problem]:
    """A dataset without an annotation file has the official number of images and label maps."""
    if tree.contents is not None or tree.spec.semantic is None:
        return
    for what, folder, files, fix in (
        ("images", tree.image_folder, tree.images, tree.fix_all),
        ("label maps", tree.root / tree.spec.semantic.folder, tree.label_maps, tree.fix_prepared),
    ):
        if len(files) not in (tree.spec.images, *tree.spec.other_counts):
            text = f"holds {len(files):,} {what}, {tree.spec.images:,} are expected"
            yield Problem(kind="count", where=str(folder), what=text, fix=fix, values=frozenset([len(files)]))


def check_strangers(tree: Tree) -> Iterator[Problem]:
    """No file is there that belongs to nothing."""
    if tree.contents is None:
        return
    wanted = {path for sample in tree.wanted for path in (sample.image, sample.label_map, sample.panoptic)}
    if tree.own_images:
        yield from _strangers("images without an annotation", set(tree.images.values()) - wanted, tree.fix_all)
    maps = set(tree.label_maps.values()) - wanted
    yield from _strangers("label maps without an entry in the annotation file", maps, tree.fix_prepared)
    if tree.spec.panoptic:
        folder = tree.root / tree.spec.panoptic.folder
        names = os.listdir(folder) if folder.is_dir() else []
        pngs = {folder / name for name in names if name.endswith(".png") and not name.startswith(".")}
        yield from _strangers("panoptic PNGs without an entry in the JSON", pngs - wanted, tree.fix_prepared)


def _strangers(what: str, files: Iterable[Path], fix: str) -> Iterator[Problem]:
    ordered = sorted(files)
    if ordered:
        yield Problem(
            kind="strangers",
            where=_common(ordered),
            what=f"{what}: take both from the same release, or remove these",
            fix=fix,
            details=tuple(path.name for path in ordered[:3]),
            count=len(ordered),
        )


def check_repeated_files(tree: Tree) -> Iterator[Problem]:
    """No two entries are the same image."""
    owners: dict[Path, int] = {}
    for sample in tree.wanted:
        if sample.image:
            owners[sample.image] = owners.get(sample.image, 0) + 1
    repeated = [path for path, count in owners.items() if count > 1]
    if repeated:
        yield Problem(
            kind="duplicates",
            where=_common(repeated),
            what="images that several entries of the annotation file name",
            fix=tree.fix_prepared,
            details=tuple(path.name for path in repeated[:3]),
            count=len(repeated),
        )


FOLDER_CHECKS: tuple[Callable[[Tree], Iterator[Problem]], ...] = (
    check_places,
    check_counts,
    check_missing_images,
    check_missing_panoptic,
    check_missing_label_maps,
    check_strangers,
    check_repeated_files,
)


def _filled(place: Path) -> bool:
    return any(place.iterdir()) if place.is_dir() else place.is_file()


def _common(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else common_folder(path.parent for path in paths)
