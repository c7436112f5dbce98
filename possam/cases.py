"""Pictures of an evaluation: for every kind of case image, ground truth, prediction and names side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from possam.d2.config import CfgNode
from possam.d2.data import MetadataCatalog, get_detection_dataset_dicts
from possam.data import read_id_map, read_rgb
from possam.engine.datasets import build_test_mapper
from possam.models import PosSAM
from possam.visualize import save_picture, side_by_side
from possam.vocabulary import Vocabulary

Record = dict[str, Any]


def draw_cases(cfg: CfgNode, model: PosSAM, dataset: str) -> list[Path]:
    """Draw the `TEST.PICTURES` images that show each kind of case best, and return the pictures' paths.

    The kinds are those of `case_kinds`. The pictures lie under OUTPUT_DIR/evaluation/<dataset>/pictures.
    """
    folder = Path(cfg.OUTPUT_DIR) / "evaluation" / dataset / "pictures"
    records = get_detection_dataset_dicts(dataset, filter_empty=False)
    vocabulary = MetadataCatalog.get(dataset).vocabulary
    seen = vocabulary.seen(model.train_vocabulary)
    mapper = build_test_mapper(cfg, vocabulary)
    paths = []
    model.eval()
    for kind, strength in case_kinds(vocabulary, model.train_vocabulary).items():
        showing = [record for record in records if strength(record)]
        for record in sorted(showing, key=strength, reverse=True)[: cfg.TEST.PICTURES]:
            output = model.segment(model.predict([mapper(record)])[0], tasks=("panoptic",))
            picture = side_by_side(
                read_rgb(record["file_name"]),
                (read_id_map(record["pan_seg_file_name"]), record["segments_info"]),
                output["panoptic_seg"],
                vocabulary.display_names,
                seen=seen,
                title=f"{kind}: {record['image_id']}",
            )
            path = folder / f"{kind}-{record['image_id']}.png"
            save_picture(path, picture)
            paths.append(path)
    return paths


def case_kinds(vocabulary: Vocabulary, train_vocabulary: Vocabulary) -> dict[str, Callable[[Record], float]]:
    """For each kind of case how strongly an image shows it by its annotation; 0 where it does not."""
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
