"""Average precision of masks, as COCO defines it and as LVIS does for federated annotations.

The numbers are those of COCOeval: `faster-coco-eval`'s where that is installed, else pycocotools'. LVIS's protocol
(Gupta et al. 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation") is pycocotools' with three changes:

- An image is judged on the classes its annotation speaks of, those it has and those it is known not to have; what is
  predicted of other classes is dropped.
- Where a class is annotated in an image but not every one of it, a prediction that matches nothing is ignored.
- The best 300 predictions of an image count, of all classes together; COCO takes the best 100 of each class.

One class is looked at after the other, in the images that have it: tables of all pairs of image and class would need
tens of gigabytes for 1,203 classes.

Shapes: T IoU thresholds (0.50, 0.55 … 0.95), R recalls (0, 0.01 … 1), K classes, A ranges of area (all, under 32²,
32² to 96², over 96² pixels).
"""

import contextlib
import importlib.metadata
import importlib.util
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["COCO_DETECTIONS", "LVIS_DETECTIONS", "ImageInstances", "ap_library", "precision_table"]

COCO_DETECTIONS = 100
LVIS_DETECTIONS = 300
_SHAPE = (10, 101, 4)
_FASTER = "faster-coco-eval"

Annotation = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImageInstances:
    """One image's instances, with run-length masks.

    Args:
        size: (height, width) in pixels.
        truth: dicts with ``category_id``, ``iscrowd``, ``area``, ``segmentation``.
        predictions: dicts with ``category_id``, ``score``, ``area``, ``segmentation``.
        unjudged: classes of which not all instances are annotated (federated annotations alone).
    """

    size: tuple[int, int]
    truth: list[Annotation]
    predictions: list[Annotation]
    unjudged: frozenset[int] = frozenset()


def ap_library(*, federated: bool = False) -> str:
    """Distribution whose COCOeval `precision_table` uses, and its version: "pycocotools 2.0.11"."""
    faster = not federated and importlib.util.find_spec("faster_coco_eval") is not None
    name = _FASTER if faster else "pycocotools"
    return f"{name} {importlib.metadata.version(name)}"


def precision_table(
    images: Sequence[ImageInstances], classes: Sequence[int], *, federated: bool = False
) -> NDArray[np.float64]:
    """Precision of each class at each IoU threshold, recall and range of area, T×R×K×A; −1 for a class without an
    annotated instance in that range that is no crowd.

    Args:
        images: of the whole dataset, in its order, which decides between equal scores.
        classes: K contiguous classes.
        federated: LVIS's protocol instead of COCO's.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        for k in {annotation["category_id"] for annotation in (*image.truth, *image.predictions)}:
            by_class[k].append(number)
    faster = ap_library(federated=federated).startswith(_FASTER)
    table = np.full((*_SHAPE[:2], len(classes), _SHAPE[2]), -1.0)
    for place, k in enumerate(classes):
        if by_class[k]:
            chosen = {number: images[number] for number in by_class[k]}
            with contextlib.redirect_stdout(io.StringIO()):
                table[:, :, place] = _class_precision(chosen, k, federated=federated, faster=faster)
    return table


class _FederatedEval(COCOeval):
    """COCOeval of one class with LVIS's rule for images where not all of the class is annotated.

    Args:
        unjudged: the numbers of those images.
    """

    def __init__(self, truth: COCO, predictions: COCO, unjudged: frozenset[int]) -> None:
        super().__init__(truth, predictions, "segm")
        self.unjudged = unjudged
        self.params.maxDets = [LVIS_DETECTIONS]

    def evaluateImg(  # noqa: N802 (COCOeval's name)
        self, imgId: int, catId: int, aRng: Sequence[float], maxDet: int  # noqa: N803
    ) -> dict[str, Any] | None:
        result: dict[str, Any] | None = super().evaluateImg(imgId, catId, aRng, maxDet)
        if result is not None and imgId in self.unjudged:
            result["dtIgnore"] = np.logical_or(result["dtIgnore"], result["dtMatches"] == 0)
        return result


def _class_precision(
    images: dict[int, ImageInstances], k: int, *, federated: bool, faster: bool
) -> NDArray[np.float64]:
    """T×R×A precision of class `k` over the images that have it."""
    coco, evaluator = (COCO, COCOeval) if not faster else _faster()
    truth = _dataset(coco, {number: (image, image.truth) for number, image in images.items()}, k)
    predictions = _dataset(coco, {number: (image, image.predictions) for number, image in images.items()}, k)
    if federated:
        unjudged = frozenset(number for number, image in images.items() if k in image.unjudged)
        evaluation = _FederatedEval(truth, predictions, unjudged)
    else:
        evaluation = evaluator(truth, predictions, "segm")
        assert evaluation.params.maxDets[-1] == COCO_DETECTIONS
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, 0, :, -1]


def _faster() -> tuple[Any, Any]:
    from faster_coco_eval import COCO, COCOeval_faster

    return COCO, COCOeval_faster


def _dataset(coco: Any, images: dict[int, tuple[ImageInstances, list[Annotation]]], k: int) -> Any:
    annotations = [
        {**annotation, "image_id": number}
        for number, (_, instances) in images.items()
        for annotation in instances
        if annotation["category_id"] == k
    ]
    dataset = coco()
    dataset.dataset = {
        # Images are numbered anew, because COCO wants ids that can be sorted and datasets may have any.
        "images": [
            {"id": number, "height": image.size[0], "width": image.size[1]}
            for number, (image, _) in images.items()
        ],
        "categories": [{"id": k, "name": str(k)}],
        # Ids start at 1: COCOeval takes the annotation id 0 for "no match".
        "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)],
    }
    dataset.createIndex()
    return dataset
