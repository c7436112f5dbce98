"""Many images to a folder of results: overlays, and predictions in COCO's panoptic and instance formats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.config import SavedConfig
from possam.d2.utils import comm
from possam.data import write_id_map
from possam.engine.provenance import parameters_sha256
from possam.layers.prompts import Prompts
from possam.models import MaskProposals
from possam.models.batch import padded_size
from possam.models.prediction import needs_prompts, no_prompts
from possam.models.state import describe_frozen
from possam.predict.background import has_background
from possam.predict.job import FAILURES, Outcome, Stages, run_stages, sentence
from possam.predict.missing import MissingWord, missing_in_both
from possam.predict.predictor import Names, Predictor
from possam.predict.prompted_result import PromptedResult
from possam.predict.prompting import EncodedImage, EverythingOptions
from possam.predict.segmentation import Segmentation, coco_categories
from possam.predict.sources import Frame, Source
from possam.utils.files import dump_json, write_atomically
from possam.utils.messages import few
from possam.vocabulary import Hierarchy, Vocabulary

__all__ = ["Outcome", "prompt_files", "segment_files"]

_JPEG_SIDE = 65_500  # pixels, of libjpeg
_FEW = 5  # images without a mask of which the reason is kept


def segment_files(
    predictor: Predictor,
    sources: Sequence[Source],
    vocabulary: Names,
    output: str | Path,
    *,
    ensemble: str | None = None,
    every: int = 1,
    batch_size: int = 1,
    workers: int = 2,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    threshold: float | None = None,
    background: bool | None = None,
) -> Outcome:
    """Segment files, without those that an earlier run has segmented into the same folder with the same settings.

    `output`/overlay/<name>.jpg shows the segments, `output`/panoptic/<name>.png and `output`/panoptic.json hold them in
    the COCO panoptic format. A file that cannot be read or segmented, or whose results cannot be written, is noted and
    passed over, without leaving half of its results; one whose overlay alone cannot be written keeps the others. A
    later run tries such files again, and does those again that have changed (path, size or modification time).

    `output`/journal.jsonl says what is done (`possam.predict.journal`). The JSON is written from it at the end, and in
    a single process also where an error or Ctrl-C stops the run.

    While an image is in the network, the next ones are read, and those before are named and written. Memory does not
    depend on the number of images, but for about 1 kB each of their names and places. In a distributed run
    (`possam.engine.launch`) all processes call this with the same arguments, and each takes its share of the files.

    Args:
        sources: as `possam.predict.sources.find_sources` gives them (`distinct_sources`).
        vocabulary: as `Predictor` takes it; of a hierarchy the JSON has each segment's path.
        output: folder, made if it does not exist; all processes must share it.
        ensemble, threshold, background: see `Predictor`.
        every: of a video take each `every`-th frame.
        batch_size: how many images, of equal size once padded, go through the network at a time. With 1 the results are
            those of `Predictor`, bit for bit; with more, scores may differ from these by rounding.
        workers: threads of each process that read, name and write; with 0 the thread that calls does all, image by
            image.
        overwrite: remove the results that the folder's journal names, and do everything again.
        progress: called with how many files are done, and how many there are to do in this process.

    Raises:
        OSError: `output` or its JSON cannot be written, or not all processes see it.
        ValueError: `output` holds predictions made with other settings; another run writes there; the JSON's place is a
            folder; `batch_size` or `workers` is out of range; the vocabulary or the ensemble cannot be used
            (`Predictor.check`); or the model needs prompts (`prompt_files`).
    """
    model = predictor.model
    if model.takes_prompts:
        raise ValueError(needs_prompts(model))
    options: dict[str, Any] = {"ensemble": ensemble, "threshold": threshold, "background": background}
    classes = predictor.check(vocabulary, **options)
    names = vocabulary if isinstance(vocabulary, Hierarchy) else classes
    least = model.postprocessor.object_threshold if threshold is None else threshold
    name = predictor.namer(names, **options)
    chosen = {"threshold": float(least), "background": has_background(names, background)}
    folder = Path(output)
    missing: tuple[MissingWord, ...] | None = None
    lock = Lock()

    def finish(frame: Frame, proposals: MaskProposals) -> tuple[list[dict[str, Any]], Callable[[Path], None]]:
        nonlocal missing
        result = name(frame.image, proposals)
        with lock:
            missing = missing_in_both(missing, result.missing)
        _write_ids(result, folder / "panoptic" / f"{frame.name}.png")
        annotation = result.to_coco(image_id=frame.name, file_name=f"{frame.name}.png")
        return [annotation], partial(_write_overlay, result)

    stages = Stages(
        kind="panoptic",
        prepare=predictor.prepare,
        size=lambda image: padded_size([image], model.pad_to, (0, 0)),
        encode=lambda images: model.propose([{"image": image} for image in images]),
        finish=finish,
    )
    outcome = run_stages(
        stages,
        sources,
        folder,
        settings=_settings(predictor, vocabulary, classes, every=every, ensemble=ensemble, **chosen),
        categories=coco_categories(classes),
        every=every,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
    # What other processes and earlier runs found is not known here.
    outcome.missing = missing if comm.get_world_size() == 1 and not outcome.resumed else None
    return outcome


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
    workers: int = 2,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    threshold: float | None = None,
    background: bool | None = None,
) -> Outcome:
    """Segment the objects of prompts in one picture, or everything in files.

    `output`/overlay/<name>.jpg shows the masks, and `output`/instances.json holds them with their names, as
    `PromptedResult.to_coco` gives them. Images go through the network one by one. Failures, other arguments and errors
    are those of `segment_files`.

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
    if prompts is not None:
        _check_prompted(sources, threshold, background)
    options_of_names: dict[str, Any] = {"ensemble": ensemble, "threshold": threshold, "background": background}
    classes = predictor.check(vocabulary or predictor.model.train_vocabulary, **options_of_names)
    least = None if threshold is None else float(threshold)
    asked: dict[str, Any] = {"threshold": least, "background": bool(background)}
    asked["everything"] = asdict(options or EverythingOptions())
    if prompts is not None:
        asked = {"prompts": {name: value.tolist() for name, value in vars(prompts).items()}}
    nothing: list[str] = []

    def encode(image: NDArray[np.uint8]) -> EncodedImage:
        if prompts is not None:
            prompts.check_inside(*image.shape[:2])
        return predictor.encode(image)

    def finish(frame: Frame, image: EncodedImage) -> tuple[list[dict[str, Any]], Callable[[Path], None]]:
        if prompts is None:
            result = image.everything(classes, options, **options_of_names)
            if result.nothing and len(nothing) < _FEW:
                nothing.append(f"{frame.name}: {result.nothing}")
        else:
            result = image.prompt(prompts, classes, ensemble=ensemble)
        return result.to_coco(image_id=frame.name), partial(_write_overlay, result)

    stages = Stages(
        kind="instances",
        prepare=lambda image: image,
        size=lambda image: image.shape,
        encode=lambda images: [encode(image) for image in images],
        finish=finish,
    )
    outcome = run_stages(
        stages,
        sources,
        Path(output),
        settings=_settings(predictor, classes, classes, every=every, ensemble=ensemble, **asked),
        categories=coco_categories(classes),
        every=every,
        batch_size=1,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
    outcome.nothing = tuple(nothing)
    return outcome


def _check_prompted(sources: Sequence[Source], threshold: float | None, background: bool | None) -> None:
    """Raise ValueError for what points and boxes do not go with."""
    if len(sources) != 1 or sources[0].is_video:
        given = f"{len(sources)} files" if len(sources) != 1 else f"the video {sources[0].place}"
        raise ValueError(f"points and boxes are places in one picture, but got {given}; give one picture.")
    if (threshold, background) != (None, None):
        raise ValueError("points and boxes always get a mask and a name; leave out threshold and background.")


def _settings(
    predictor: Predictor, asked: Names, classes: Vocabulary, *, ensemble: str | None, **options: Any
) -> dict[str, Any]:
    """Settings that the results of an image depend on, as plain data for the journal. Defaults are recorded by their
    values, so that giving them explicitly changes nothing.

    The batch size, the device and this package's version, which change results by rounding at most, are left out.
    """
    model = predictor.model
    config = SavedConfig.portable(model.config).to_yaml() if model.config else ""
    table = classes.to_table()["classes"]
    settings = {
        "model": f"{type(model).__name__} {_digest([parameters_sha256(model), describe_frozen(model), config])}",
        "classes": f"{few(classes.display_names, 4)} {_digest(table)}",
        "ensemble": ensemble or model.ensemble,
        **options,
    }
    if isinstance(asked, Hierarchy):
        settings["hierarchy"] = {
            "parents": _digest(asked.parents), "stop_below": asked.stop_below, "node_score": asked.node_score
        }  # fmt: skip
    return settings


def _digest(content: Any) -> str:
    return hashlib.sha256(dump_json(content)).hexdigest()[:16]


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
    except FAILURES as error:
        with suppress(OSError):
            path.unlink()
        raise ValueError(f"its {what} {path} cannot be written ({sentence(error)}).") from error
