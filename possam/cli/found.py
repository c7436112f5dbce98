"""Printed results and overlay videos of `possam segment`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from possam.data.pictures import read_picture
from possam.predict.batch import Outcome
from possam.predict.missing import tell_missing
from possam.predict.sources import Source
from possam.predict.summary import found_line, read_found
from possam.predict.videos import frame_rate, write_video
from possam.utils.files import read_json
from possam.utils.messages import one_line
from possam.vocabulary import Vocabulary

__all__ = ["leave_out_results", "print_found", "write_overlay_videos"]

logger = logging.getLogger(__name__)


def print_found(outcome: Outcome, vocabulary: Vocabulary, output: Path, *, as_json: bool, quiet: bool) -> None:
    """Print what was found, on stdout: a line an image, and where the results are; or a JSON object a line; or nothing.
    Failures are on stderr whatever is printed."""
    if outcome.images and not quiet:
        for record in read_found(outcome.json, vocabulary):
            print(json.dumps(record, ensure_ascii=False) if as_json else one_line(found_line(record)))
        if not as_json:
            count = "1 image" if outcome.images == 1 else f"{outcome.images} images"
            earlier = f" ({outcome.resumed} done before)" if outcome.resumed else ""
            print(f"{count}{earlier}; overlays and predictions are in {output}")
            for line in (*tell_missing(outcome.missing or ()), *outcome.nothing):
                print(line)
    for path, reason in outcome.failures.items():
        print(one_line(f"error: {path}: {reason}" if path not in reason else f"error: {reason}"), file=sys.stderr)


def leave_out_results(sources: Sequence[Source], output: Path) -> list[Source]:
    """The sources without those in the folders of results below `output`, as of an earlier run into a folder of images.

    Raises:
        ValueError: nothing is left.
    """
    folders = [os.path.realpath(output / name) + os.sep for name in ("overlay", "panoptic", "video")]
    kept = [source for source in sources if not os.path.realpath(source.path).startswith(tuple(folders))]
    if not kept:
        raise ValueError(f"all images given are results in {output}; give images of your own, or another --output.")
    if len(kept) < len(sources):
        logger.warning("%d files in the folders of results in %s are left out.", len(sources) - len(kept), output)
    return kept


def write_overlay_videos(outcome: Outcome, sources: Sequence[Source], output: Path, *, every: int) -> None:
    """Write `output`/video/<name>.mp4 of the overlays of each video's frames, as fast as the video is."""
    videos = [source for source in sources if source.is_video and not source.problem]
    if not videos:
        return
    names = [str(image["id"]) for image in read_json(outcome.json)["images"]]
    for source in videos:
        frames = [output / "overlay" / f"{name}.jpg" for name in names if name.rpartition("/")[0] == source.name]
        images = (read_picture(path) for path in frames if path.is_file())
        try:
            write_video(output / "video" / f"{source.name}.mp4", images, frame_rate(source.path) / every)
        except (ValueError, OSError) as error:
            logger.warning("no video of the overlays of %s: %s", source.path, error)
