"""Pictures and videos on disk, one frame after the other, from whatever paths a person gives."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.data.pictures import read_picture

__all__ = ["Frame", "Source", "find_sources", "read_frames"]

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}


@dataclass(frozen=True)
class Source:
    """A file, and the name its results get: its path without suffix, below the folder it was found in."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.casefold() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Frame:
    """An image H×W×3 uint8 RGB, and the name its results get."""

    name: str
    image: NDArray[np.uint8]


def find_sources(paths: Sequence[str | Path]) -> list[Source]:
    """Files of images and videos, from files, folders (with their subfolders) and patterns such as "photos/*.jpg".

    A file that is named is taken whatever its suffix and whether or not it exists; reading says what is wrong with it.
    Two files of one name get different names for their results.

    Raises:
        ValueError: no path, or a folder or pattern without any picture or video.
    """
    found: list[Source] = []
    for path in paths:
        if Path(path).is_dir():
            files = [file for file in sorted(Path(path).rglob("*")) if _is_known(file)]
            found += [Source(file, file.relative_to(path).with_suffix("").as_posix()) for file in files]
        elif glob.has_magic(str(path)) and not Path(path).exists():
            files = [Path(file) for file in sorted(glob.glob(str(path), recursive=True)) if _is_known(Path(file))]
            found += [Source(file, file.stem) for file in files]
        else:
            files = [Path(path)]
            found.append(Source(files[0], files[0].stem))
        if not files:
            raise ValueError(f"there is no picture and no video in {path}; known suffixes: {_known_suffixes()}.")
    if not found:
        raise ValueError("no image was given; name files, folders or patterns such as 'photos/*.jpg'.")
    return _distinct(found)


def read_frames(source: Source, *, every: int = 1) -> Iterator[Frame]:
    """The frames of a video, each `every`-th of them, or the one image of a picture's file.

    Raises:
        FileNotFoundError, ValueError: the file is not there or cannot be read; names it.
    """
    if not source.is_video:
        yield Frame(source.name, read_picture(source.path))
        return
    if not source.path.is_file():
        raise FileNotFoundError(f"there is no video at {source.path}; check the path.")
    capture = cv2.VideoCapture(str(source.path))
    try:
        number = 0
        while capture.grab():
            if number % every == 0:
                _, frame = capture.retrieve()
                yield Frame(f"{source.name}/{number:06d}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8))
            number += 1
    finally:
        capture.release()
    if not number:
        raise ValueError(f"{source.path} cannot be read as a video; convert it to MP4.")


def _is_known(path: Path) -> bool:
    suffix = path.suffix.casefold()
    return path.is_file() and (suffix in VIDEO_SUFFIXES or suffix in Image.registered_extensions())


def _known_suffixes() -> str:
    return ", ".join([".jpg", ".png", ".tif", ".webp", *sorted(VIDEO_SUFFIXES)]) + " and others that Pillow reads"


def _distinct(sources: Sequence[Source]) -> list[Source]:
    """Each file once, with a number behind a name that is taken already."""
    taken: dict[str, Path] = {}
    result = []
    for source in sources:
        if source.path in taken.values():
            continue
        name, number = source.name, 2
        while name in taken:
            name, number = f"{source.name}-{number}", number + 1
        taken[name] = source.path
        result.append(Source(source.path, name))
    return result
