"""Pictures of an evaluation: for every kind of case image, ground truth, prediction and names side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.d2.config import CfgNode
from possam.data import read_rgb
from possam.engine.datasets import build_test_mapper
from possam.engine.evaluate import build_predictor
from possam.evaluation import GroundTruth
from possam.models import OpenVocabularySegmenter
from possam.visualize import save_picture, side_by_side
from possam.visualize.sizes import shrink_image, shrink_index, shrunk_size
from possam.vocabulary import Vocabulary

__all__ = ["case_kinds", "draw_cases"]

_LONGEST = 1024  # longer side of a panel in pixels; masks have no more to show

Record = dict[str, Any]


def draw_cases(cfg: CfgNode, model: OpenVocabularySegmenter, dataset: str) -> list[Path]:
    """Draw the `TEST.NUM_VISUALIZATIONS` images that show each kind of case best, and return the pictures' paths.

    The kinds are those of `case_kinds`; a dataset without panoptic annotations has one kind, "sample": images from all
    over it, with its label maps as ground truth where it has these. The pictures lie under
    OUTPUT_DIR/evaluation/<dataset>/pictures.
    """
    folder = Path(cfg.OUTPUT_DIR) / "evaluation" / dataset / "pictures"
    ground_truth = GroundTruth(dataset)
    vocabulary = ground_truth.vocabulary
    seen = vocabulary.seen(model.train_vocabulary)
    mapper = build_test_mapper(cfg, vocabulary)
    predictor = build_predictor(cfg, model)
    paths = []
    model.eval()
    for kind, record in _cases(ground_truth, model.train_vocabulary, cfg.TEST.NUM_VISUALIZATIONS):
        image_id = record["image_id"]
        height, width = shrunk_size(ground_truth.size(image_id), _LONGEST)
        inputs = {**mapper(record), "height": height, "width": width}
        output = predictor.segment(predictor.predict([inputs])[0], tasks=("panoptic",))
        picture = side_by_side(
            shrink_image(read_rgb(record["file_name"]), _LONGEST),
            _truth(ground_truth, image_id),
            output["panoptic_seg"],
            vocabulary.display_names,
            seen=seen,
            title=f"{kind}: {image_id}",
        )
        path = folder / f"{kind}-{str(image_id).replace('/', '-')}.png"
        save_picture(path, picture)
        paths.append(path)
    return paths


def _cases(ground_truth: GroundTruth, train_vocabulary: Vocabulary, count: int) -> Iterator[tuple[str, Record]]:
    records = list(ground_truth.records.values())
    if "panoptic" not in ground_truth.tasks:
        places = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)
        yield from (("sample", records[place]) for place in places.tolist())
        return
    for kind, strength in case_kinds(ground_truth.vocabulary, train_vocabulary).items():
        showing = [record for record in records if strength(record)]
        yield from ((kind, record) for record in sorted(showing, key=strength, reverse=True)[:count])


def case_kinds(vocabulary: Vocabulary, train_vocabulary: Vocabulary) -> dict[str, Callable[[Record], float]]:
    """For each kind of case how strongly an image shows it by its panoptic annotation; 0 where it does not."""
    seen = vocabulary.seen(train_vocabulary)

    def share(wanted_seen: bool, wanted_thing: bool) -> Callable[[Record], float]:
        def of(record: Record) -> float:
            return sum(
                segment.get("area", 0)
                for segment in record["segments_info"]
                if seen[segment["category_id"]] == wanted_seen and segment["isthing"] == wanted_thing
            ) / (record["height"] * record["width"])

        return of

    return {
        "seen-things": share(True, True),
        "unseen-things": share(False, True),
        "seen-stuff": share(True, False),
        "unseen-stuff": share(False, False),
        "many-segments": lambda record: len(record["segments_info"]),
        "small-segments": lambda record: -min((s.get("area", 0) for s in record["segments_info"]), default=0),
    }


def _truth(ground_truth: GroundTruth, image_id: Any) -> tuple[NDArray[np.int32], list[dict[str, Any]]] | None:
    """A panel's ids and segments: of the panoptic annotation, or one segment a class of the label map."""
    if "panoptic" in ground_truth.tasks:
        index, segments = ground_truth.index(image_id), ground_truth.segments(image_id)
    elif "semantic" in ground_truth.tasks:
        labels = ground_truth.labels(image_id)
        index = labels + 1
        segments = [{"category_id": k} for k in range(int(labels.max(initial=-1)) + 1)]
    else:
        return None
    return shrink_index(index, _LONGEST), [{**segment, "id": i + 1} for i, segment in enumerate(segments)]
