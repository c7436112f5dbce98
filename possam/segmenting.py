"""Many images to a folder of results: overlays, and predictions in the COCO panoptic format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from possam.data import write_id_map
from possam.files import write_atomically, write_json
from possam.frames import Source, read_frames
from possam.predictor import Predictor
from possam.segmentation import Segmentation, coco_categories
from possam.vocabulary import Vocabulary

__all__ = ["Outcome", "segment_files"]


@dataclass
class Outcome:
    """What came of it: the JSON of all predictions, how many images were segmented, and what went wrong where."""

    json: Path
    images: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def segment_files(
    predictor: Predictor,
    sources: Sequence[Source],
    vocabulary: Vocabulary,
    output: str | Path,
    *,
    ensemble: str | None = None,
    every: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Segment files one after the other.

    `output`/overlay/<name>.jpg shows the segments, `output`/panoptic/<name>.png and `output`/panoptic.json hold them in
    the COCO panoptic format. A file that cannot be read or segmented is noted and passed over; the JSON is written
    whatever happens, so that a run that is stopped keeps what it has done.

    Args:
        sources: as `possam.frames.find_sources` gives them.
        output: folder, made if it does not exist.
        ensemble: see `Predictor`.
        every: of a video take each `every`-th frame.
        progress: called with how many files are done and how many there are.

    Raises:
        OSError: `output` cannot be written.
        ValueError: the vocabulary or the ensemble cannot be used (`Predictor.check`).
    """
    predictor.check(vocabulary, ensemble)
    folder = Path(output)
    (folder / "overlay").mkdir(parents=True, exist_ok=True)
    outcome = Outcome(folder / "panoptic.json")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for done, source in enumerate(sources):
            try:
                for frame in read_frames(source, every=every):
                    result = predictor(frame.image, vocabulary, ensemble=ensemble)
                    _write(result, folder, frame.name)
                    height, width = frame.image.shape[:2]
                    name = source.path.as_posix() if not source.is_video else frame.name
                    images.append({"id": frame.name, "file_name": name, "height": height, "width": width})
                    annotations.append(result.to_coco(image_id=frame.name, file_name=f"{frame.name}.png"))
                    outcome.images += 1
            except (ValueError, FileNotFoundError) as error:
                outcome.failures[str(source.path)] = str(error)
            if progress:
                progress(done + 1, len(sources))
    finally:
        categories = coco_categories(vocabulary)
        write_json(outcome.json, {"images": images, "annotations": annotations, "categories": categories})
    return outcome


def _write(result: Segmentation, folder: Path, name: str) -> None:
    write_id_map(folder / "panoptic" / f"{name}.png", result.segmentation)
    overlay = result.plot()
    write_atomically(folder / "overlay" / f"{name}.jpg", lambda file: overlay.save(file, format="JPEG", quality=92))
