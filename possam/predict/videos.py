"""Frames of videos, what is missing of them, and videos of overlays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from possam.utils.files import opencv_path
from possam.utils.messages import few

__all__ = ["VIDEO_SUFFIXES", "frame_rate", "read_video", "write_video"]

_COUNTED = {".3gp", ".avi", ".m4v", ".mov", ".mp4"}  # containers that state how many frames they have
_TIMED = {".flv", ".mkv", ".webm", ".wmv"}  # those that state how long they are
VIDEO_SUFFIXES = _COUNTED | _TIMED | {".m2ts", ".mpeg", ".mpg", ".mts", ".ogv"}
_MISSES_AT_END, _MOST_MISSES = 30, 1000  # after so many frames in a row that do not decode, a video is at its end


def read_video(path: Path, *, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode each `every`-th frame of a video, and pass over frames that do not decode.

    Yields:
        The frame's number from 0, counting those passed over, and its image, H×W×3 uint8 RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no frame decodes; or, after the last frame, some were passed over, or the video ends before the end
            it states; names them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no video at {path}; check the path.")
    capture = cv2.VideoCapture(opencv_path(path))
    try:
        rate, stated = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        damaged: list[int] = []
        misses: list[int] = []  # since the last frame that decoded
        seconds = 0.0
        for number in count():
            image = _next(capture, wanted=number % every == 0)
            if image is None:
                misses.append(number)
                if len(misses) >= (_MOST_MISSES if number + 1 < stated else _MISSES_AT_END):
                    break
                continue
            damaged, misses = damaged + misses, []
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if image.size:
                yield number, image
    finally:
        capture.release()
    end = misses[0]
    if len(damaged) == end:
        raise ValueError(f"{path} cannot be read as a video; convert it to MP4.")
    problems = [f"frames {few(damaged)} do not decode"] if damaged else []
    if path.suffix.casefold() in _COUNTED and end < stated:
        problems.append(f"it ends after {end} of the {stated} frames it states")
    if path.suffix.casefold() in _TIMED and rate > 0 and _ends_early(seconds, end, stated / rate):
        problems.append(f"it ends after {seconds:.1f} of the {stated / rate:.1f} seconds it states")
    if problems:
        raise ValueError(f"{path} is damaged: {', and '.join(problems)}. The other frames were read; get it again.")


def frame_rate(path: Path) -> float:
    """Frames a second that a video states; 25 where it states none."""
    capture = cv2.VideoCapture(opencv_path(path))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], rate: float) -> int:
    """Write images as an MP4 (MPEG-4 part 2, which players show and most browsers do not); all of it or nothing.

    Args:
        path: ends in .mp4; its folder is made.
        images: H×W×3 uint8 RGB; those of another size than the first are resized to it.
        rate: frames a second.

    Returns:
        How many images were written; without any, there is no file.

    Raises:
        ValueError: OpenCV cannot write such a video here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".video-") as folder:
        made = Path(folder) / "video.mp4"
        writer = None
        try:
            for image in images:
                if writer is None:
                    size = (image.shape[1], image.shape[0])
                    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)  # type: ignore
                    if not writer.isOpened():
                        raise ValueError(f"{path} cannot be written: OpenCV has no MPEG-4 encoder here.")
                fitted = image if image.shape[1::-1] == size else cv2.resize(image, size)
                writer.write(cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR))
                count += 1
        finally:
            if writer is not None:
                writer.release()
        if count:
            os.replace(made, path)
    return count


def _next(capture: cv2.VideoCapture, *, wanted: bool) -> NDArray[np.uint8] | None:
    """The next frame; an empty array where it is not wanted, None where it does not decode."""
    if not capture.grab():
        return None
    if not wanted:
        return np.empty(0, np.uint8)
    whole, image = capture.retrieve()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8) if whole else None


def _ends_early(seconds: float, frames: int, stated: float) -> bool:
    """Whether the last frame lies further before the stated end, which may be the sound's, than rounding explains."""
    interval = seconds / max(1, frames - 1)
    return stated - seconds > max(3 * interval, 0.05 * stated)
