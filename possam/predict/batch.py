"""Many images to a folder of results: overlays, and predictions in COCO's panoptic and instance formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from possam.data import write_id_map
from possam.layers.prompts import Prompts
from possam.models.prediction import needs_prompts, no_prompts
from possam.predict.missing import MissingWord, missing_in_both
from possam.predict.predictor import Names, Predictor
from possam.predict.prompted_result import PromptedResult
from possam.predict.prompting import EverythingOptions
from possam.predict.segmentation import Segmentation, coco_categories
from possam.predict.sources import Frame, Source, as_text, distinct_sources, read_frames
from possam.utils.files import write_atomically, write_json
from possam.vocabulary import Vocabulary

__all__ = ["Outcome", "prompt_files", "segment_files"]

_FAILURES = (ValueError, OSError, MemoryError, torch.OutOfMemoryError)
_JPEG_SIDE = 65_500  # pixels, of libjpeg


@dataclass
class Outcome:
    """What came of it: the JSON of all predictions, how many images were segmented, what went wrong where (a file, or a
    frame of one), and the words that were found in no image (`missing_in_both`), None where no image asks."""

    json: Path
    images: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    missing: tuple[MissingWord, ...] | None = None


def segment_files(
    predictor: Predictor,
    sources: Sequence[Source],
    vocabulary: Names,
    output: str | Path,
    *,
    ensemble: str | None = None,
    every: int = 1,
    progress: Callable[[int, int], None] | None = None,
    threshold: float | None = None,
    background: bool | None = None,
) -> Outcome:
    """Segment files one after the other.

    `output`/overlay/<name>.jpg shows the segments, `output`/panoptic/<name>.png and `output`/panoptic.json hold them in
    the COCO panoptic format. A file that cannot be read or segmented, or whose results cannot be written, is noted and
    passed over, without leaving half of its results; one whose overlay alone cannot be written keeps the others. The
    JSON is written whatever happens, so that a run that is stopped keeps what it has done.

    Args:
        sources: as `possam.predict.sources.find_sources` gives them (`distinct_sources`).
        vocabulary: as `Predictor` takes it; of a hierarchy the JSON has each segment's path.
        output: folder, made if it does not exist.
        ensemble, threshold, background: see `Predictor`.
        every: of a video take each `every`-th frame.
        progress: called with how many files are done and how many there are.

    Raises:
        OSError: `output` or its JSON cannot be written.
        ValueError: the JSON's place is a folder; the vocabulary or the ensemble cannot be used (`Predictor.check`); or
            the model needs prompts (`prompt_files`).
    """
    if predictor.model.takes_prompts:
        raise ValueError(needs_prompts(predictor.model))
    classes = predictor.check(vocabulary, ensemble, threshold=threshold, background=background)
    folder = Path(output)

    def segment(frame: Frame) -> tuple[Segmentation, list[dict[str, Any]]]:
        result = predictor(frame.image, vocabulary, ensemble=ensemble, threshold=threshold, background=background)
        _write_ids(result, folder / "panoptic" / f"{frame.name}.png")
        return result, [result.to_coco(image_id=frame.name, file_name=f"{frame.name}.png")]

    return _run(sources, segment, folder, "panoptic", classes, every=every, progress=progress)


def prompt_files(
    predictor: Predictor,
    sources: Sequence[Source],
    vocabulary: Vocabulary | None,
    output: str | Path,
    *,
    prompts: Prompts | None = None,
    options: EverythingOptions | None = None,
    ensemble: str | None = None,
    every: int = 1,
    progress: Callable[[int, int], None] | None = None,
    threshold: float | None = None,
    background: bool | None = None,
) -> Outcome:
    """Segment what prompts ask for in one picture, or everything in files one after the other.

    `output`/overlay/<name>.jpg shows the masks, and `output`/instances.json holds them with their names, as
    `PromptedResult.to_coco` gives them. Failures, other arguments and errors are those of `segment_files`.

    Args:
        vocabulary: by default the classes of the model's training.
        prompts: in pixels of the only source, which is a picture; None for everything.
        options: for everything, see `EverythingOptions`.
        threshold, background: for everything, see `EncodedImage.everything`.

    Raises:
        ValueError: as `segment_files`; the model takes no prompts; or there are prompts for several files or a video.
    """
    if not predictor.model.takes_prompts:
        raise ValueError(no_prompts(predictor.model))
    if prompts is not None and (len(sources) != 1 or sources[0].is_video):
        given = f"{len(sources)} files" if len(sources) != 1 else f"the video {sources[0].path}"
        raise ValueError(f"points and boxes are places in one picture, but got {given}; give one picture.")
    if prompts is not None and (threshold, background) != (None, None):
        raise ValueError("points and boxes always get a mask and a name; leave out threshold and background.")
    classes = predictor.check(
        vocabulary or predictor.model.train_vocabulary, ensemble, threshold=threshold, background=background
    )

    def segment(frame: Frame) -> tuple[PromptedResult, list[dict[str, Any]]]:
        if prompts is not None:
            prompts.check_inside(*frame.image.shape[:2])
        image = predictor.encode(frame.image)
        if prompts is None:
            result = image.everything(classes, options, ensemble=ensemble, threshold=threshold, background=background)
        else:
            result = image.prompt(prompts, classes, ensemble=ensemble)
        return result, result.to_coco(image_id=frame.name)

    return _run(sources, segment, Path(output), "instances", classes, every=every, progress=progress)


def _run(
    sources: Sequence[Source],
    segment: Callable[[Frame], tuple[Segmentation | PromptedResult, list[dict[str, Any]]]],
    folder: Path,
    kind: str,
    vocabulary: Vocabulary,
    *,
    every: int,
    progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Segment the frames of files, draw what was found, and write the annotations to `folder`/`kind`.json."""
    sources = distinct_sources(sources)
    outcome = Outcome(folder / f"{kind}.json")
    for part in ("overlay", *(("panoptic",) if kind == "panoptic" else ())):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if outcome.json.is_dir():
        raise ValueError(f"{outcome.json} is a folder, but the predictions are to be written there; remove it.")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for done, source in enumerate(sources):
            for frame in _readable(source, every, outcome.failures):
                file_name = frame.name if source.is_video else as_text(source.path.as_posix())
                place = f"{source.path}, {frame.name}" if source.is_video else str(source.path)
                try:
                    result, found = segment(frame)
                except _FAILURES as error:
                    outcome.failures[place] = _reason(error)
                    continue
                height, width = frame.image.shape[:2]
                images.append({"id": frame.name, "file_name": file_name, "height": height, "width": width})
                annotations += found
                outcome.images += 1
                if isinstance(result, Segmentation):
                    outcome.missing = missing_in_both(outcome.missing, result.missing)
                try:
                    _write_overlay(result, folder / "overlay" / f"{frame.name}.jpg")
                except _FAILURES as error:
                    kept = "Its panoptic PNG is written." if kind == "panoptic" else f"Its masks are in {outcome.json}."
                    outcome.failures[place] = f"{_reason(error)} {kept}"
            if progress:
                progress(done + 1, len(sources))
    finally:
        categories = coco_categories(vocabulary)
        write_json(outcome.json, {"images": images, "annotations": annotations, "categories": categories})
    return outcome


def _readable(source: Source, every: int, failures: dict[str, str]) -> Iterator[Frame]:
    """The frames of a file, up to what cannot be read, which is noted."""
    try:
        yield from read_frames(source, every=every)
    except _FAILURES as error:
        failures[str(source.path)] = _reason(error)


def _write_ids(result: Segmentation, path: Path) -> None:
    with _whole(path, "result"):
        write_id_map(path, result.segmentation)


def _write_overlay(result: Segmentation | PromptedResult, path: Path) -> None:
    with _whole(path, "overlay"):
        overlay = result.plot()
        if max(overlay.size) > _JPEG_SIDE:
            raise ValueError(f"it has {overlay.width}×{overlay.height} pixels, and a JPEG {_JPEG_SIDE} a side at most")
        write_atomically(path, lambda file: overlay.save(file, format="JPEG", quality=92))


@contextmanager
def _whole(path: Path, what: str) -> Iterator[None]:
    """Remove a file of an earlier run where this one's cannot be written, and say that in the error."""
    try:
        yield
    except _FAILURES as error:
        with suppress(OSError):
            path.unlink()
        raise ValueError(f"its {what} {path} cannot be written ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    """An error as a sentence; those of the system without their number and the temporary file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
