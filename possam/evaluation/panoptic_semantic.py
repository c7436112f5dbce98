"""Semantic segmentation by merging panoptic predictions (arXiv:2303.11324, Table 8)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.id_maps import check_ids
from possam.evaluation.panoptic import read_output
from possam.evaluation.semantic import SemanticEvaluator

__all__ = ["PanopticSemanticEvaluator"]


class PanopticSemanticEvaluator(SemanticEvaluator):
    """The metrics of `SemanticEvaluator`, of the label map that the panoptic prediction makes.

    Scores ``output["panoptic_seg"]`` as `PanopticEvaluator` takes it: every pixel has the class of its segment. A pixel
    of no segment is predicted as nothing: a miss of its annotated class.
    """

    def predicted_labels(self, image_id: Any, output: Mapping[str, Any]) -> NDArray[Any]:
        ids, segments, classes = read_output(self, image_id, output)
        index = check_ids(ids, [segment["id"] for segment in segments], source=f"panoptic_seg of image {image_id!r}")
        return np.append(-1, classes)[index]

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        return {"panoptic_sem_seg": super().summarize(results)["sem_seg"]}
