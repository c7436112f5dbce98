"""Pictures of what an evaluation saw: for every kind of case image, ground truth, prediction and names side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from possam.d2.config import CfgNode
from possam.d2.data import get_detection_dataset_dicts
from possam.data import PanopticMapper, build_augmentations
from possam.models import PosSAM
from possam.vocabulary import Vocabulary

Record = dict[str, Any]


def draw_cases(cfg: CfgNode, model: PosSAM, dataset: str, vocabulary: Vocabulary, folder: Path) -> list[Path]:
    """Write `TEST.PICTURES` pictures for each kind of case in `dataset`, and return their paths."""
    records = get_detection_dataset_dicts(dataset, filter_empty=False)
    raise NotImplementedError


def _cases(vocabulary: Vocabulary, train_vocabulary: Vocabulary) -> dict[str, Callable[[Record], float]]:
    """For each kind of case how strongly an image shows it, by its ground truth alone."""
    seen = vocabulary.seen(train_vocabulary)

    def area(wanted_seen: bool, wanted_thing: bool) -> Callable[[Record], float]:
        def share(record: Record) -> float:
            return sum(
                segment["area"]
                for segment in record["segments_info"]
                if seen[segment["category_id"]] == wanted_seen and bool(segment["isthing"]) == wanted_thing
            ) / (record["height"] * record["width"])

        return share

    return {
        "seen-things": area(True, True),
        "unseen-things": area(False, True),
        "seen-stuff": area(True, False),
        "unseen-stuff": area(False, False),
        "crowded": lambda record: len(record["segments_info"]),
        "small": lambda record: -min((segment["area"] for segment in record["segments_info"]), default=0),
    }
