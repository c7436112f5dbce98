"""The annotations that evaluators score against, read once an image for all of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.id_maps import check_ids, read_id_map
from possam.vocabulary import Vocabulary

__all__ = ["GroundTruth"]


class GroundTruth:
    """A registered panoptic dataset, by image id.

    One object may serve several evaluators: the last image's PNG is kept, so that it is decoded once for all.
    """

    def __init__(self, dataset_name: str) -> None:
        """
        Args:
            dataset_name: a name given to `possam.data.register_panoptic`.
        Raises:
            ValueError: no such dataset, or one that was not registered as a panoptic dataset.
        """
        if dataset_name not in DatasetCatalog.list():
            raise ValueError(
                f"unknown dataset {dataset_name!r}; registered are {sorted(DatasetCatalog.list())}. "
                "Register it with possam.data.register_panoptic first."
            )
        self.name = dataset_name
        self.metadata = MetadataCatalog.get(dataset_name)
        if not isinstance(getattr(self.metadata, "vocabulary", None), Vocabulary):
            raise ValueError(
                f"dataset {dataset_name!r} has no vocabulary in its metadata; "
                "register it with possam.data.register_panoptic."
            )
        self.vocabulary: Vocabulary = self.metadata.vocabulary
        self.records: dict[Any, dict[str, Any]] = {
            record["image_id"]: record for record in DatasetCatalog.get(dataset_name)
        }
        self._last: tuple[Any, NDArray[np.int64]] | None = None

    def record(self, image_id: Any) -> dict[str, Any]:
        """The dataset's dict of an image (see `possam.data.load_panoptic`).

        Raises:
            ValueError: the dataset has no such image.
        """
        if image_id not in self.records:
            raise ValueError(
                f"image id {image_id!r} is not in dataset {self.name!r} ({len(self.records)} images); "
                "evaluate a dataset with its own loader."
            )
        return self.records[image_id]

    def segments(self, image_id: Any) -> list[dict[str, Any]]:
        """The annotated segments of an image: ``category_id`` (contiguous), ``iscrowd``, ``isthing`` …"""
        return self.record(image_id)["segments_info"]

    def index(self, image_id: Any) -> NDArray[np.int64]:
        """H×W int64, read-only: 0 for void, ``i + 1`` for ``segments(image_id)[i]``."""
        if self._last is None or self._last[0] != image_id:
            record = self.record(image_id)
            path = record["pan_seg_file_name"]
            ids = [segment["id"] for segment in record["segments_info"]]
            index = check_ids(read_id_map(path), ids, source=path)
            index.setflags(write=False)
            self._last = (image_id, index)
        return self._last[1]

    def classes(self, image_id: Any) -> NDArray[np.int64]:
        """Contiguous class of each segment."""
        return np.array([segment["category_id"] for segment in self.segments(image_id)], dtype=np.int64)

    def crowds(self, image_id: Any) -> NDArray[np.bool_]:
        """Whether each segment is a crowd."""
        return np.array([segment["iscrowd"] for segment in self.segments(image_id)], dtype=bool)
