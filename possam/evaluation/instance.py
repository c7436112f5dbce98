"""Instance segmentation: COCO's average precision of masks of things."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from possam.evaluation.groups import mean_of
from possam.evaluation.per_image import PerImageEvaluator

__all__ = ["InstanceEvaluator"]

# Places in COCOeval's precision: thresholds × recalls × classes × areas × numbers of detections.
_AREAS = {"AP": 0, "APs": 1, "APm": 2, "APl": 3}
_THRESHOLDS = {"AP50": 0, "AP75": 5}


class InstanceEvaluator(PerImageEvaluator):
    """AP, AP50, AP75, APs, APm, APl, AP_seen and AP_unseen, in percent, as pycocotools computes them.

    Scores ``output["instances"]``: Instances with ``pred_masks`` (N×H×W bool, at the size of the image on
    disk), ``scores`` and ``pred_classes`` (contiguous); predictions of stuff classes are left out. The
    annotation is the panoptic one: each thing segment is an instance, crowds are COCO's ``iscrowd``. Classes
    without an annotated instance are left out of the means; a group with no class left has NaN.
    """

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> dict[str, Any]:
        """Annotated and predicted instances as COCO annotations with run-length masks."""
        instances = self.output_of(image_id, output, "instances")
        masks = instances.pred_masks.cpu().numpy()
        self.check_size(image_id, "instances.pred_masks", masks.shape[1:])
        classes = instances.pred_classes.cpu().numpy()
        if len(classes) and not 0 <= classes.min() <= classes.max() < len(self.vocabulary):
            raise ValueError(
                f"instances of image {image_id!r} have classes from {classes.min()} to {classes.max()}, "
                f"but dataset {self.ground_truth.name!r} has {len(self.vocabulary)}; "
                "predict with the dataset's vocabulary."
            )
        things = np.array(self.vocabulary.isthing, dtype=bool)[classes]
        predictions = _annotations(masks[things], classes[things])
        for annotation, score in zip(predictions, instances.scores.cpu().numpy()[things], strict=True):
            annotation["score"] = float(score)
        return {"size": masks.shape[1:], "truth": self._truth(image_id), "predictions": predictions}

    def _truth(self, image_id: Any) -> list[dict[str, Any]]:
        index = self.ground_truth.index(image_id)
        segments = self.ground_truth.segments(image_id)
        things = [i for i, segment in enumerate(segments) if self.vocabulary.isthing[segment["category_id"]]]
        masks = np.stack([index == i + 1 for i in things]) if things else np.zeros((0, *index.shape), bool)
        annotations = _annotations(masks, self.ground_truth.classes(image_id)[things])
        for annotation, i in zip(annotations, things, strict=True):
            annotation["iscrowd"] = int(segments[i]["iscrowd"])
        return annotations

    def summarise(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        groups = {suffix: self.groups[suffix] for suffix in ("_seen", "_unseen") if suffix in self.groups}
        names = [*_AREAS, *_THRESHOLDS, *(f"AP{suffix}" for suffix in groups)]
        if not results:
            return {"segm": {name: float("nan") for name in names}}
        things = [k for k, isthing in enumerate(self.vocabulary.isthing) if isthing]
        precision = self._precision(results, things)

        def per_class(area: int, threshold: slice = slice(None)) -> NDArray[np.float64]:
            values = np.full(len(self.vocabulary), np.nan)
            for place, k in enumerate(things):
                chosen = precision[threshold, :, place, area]
                values[k] = chosen.mean() if chosen.size and chosen.min() > -1 else np.nan
            return 100 * values

        everything = self.groups[""]
        metrics = {name: mean_of(per_class(area), everything) for name, area in _AREAS.items()}
        for name, t in _THRESHOLDS.items():
            metrics[name] = mean_of(per_class(0, slice(t, t + 1)), everything)
        metrics |= {f"AP{suffix}": mean_of(per_class(0), group) for suffix, group in groups.items()}
        return {"segm": {name: metrics[name] for name in names}}

    @staticmethod
    def _precision(results: Sequence[Any], things: list[int]) -> NDArray[np.float64]:
        """COCOeval's precision at 100 detections an image: thresholds × recalls × things × areas."""
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(
                _coco(results, "truth", things), _coco(results, "predictions", things), "segm"
            )
            evaluation.params.catIds = things
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][..., -1]


def _annotations(masks: NDArray[np.bool_], classes: NDArray[np.integer]) -> list[dict[str, Any]]:
    if not len(masks):
        return []
    # The coder wants H×W×N bytes, columns first.
    runs = mask_coder.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    areas, boxes = mask_coder.area(runs), mask_coder.toBbox(runs)
    return [
        {
            "segmentation": run,
            "area": float(area),
            "bbox": box.tolist(),
            "category_id": int(category),
            "iscrowd": 0,
        }
        for run, area, box, category in zip(runs, areas, boxes, classes, strict=True)
    ]


def _coco(results: Sequence[Any], key: str, things: list[int]) -> COCO:
    # Ids start at 1: COCOeval takes the annotation id 0 for "no match". Images are numbered anew, because
    # COCO wants ids that can be sorted and datasets may have any.
    annotations = [
        {**annotation, "image_id": number}
        for number, image in enumerate(results)
        for annotation in image[key]
    ]
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "height": image["size"][0], "width": image["size"][1]}
            for number, image in enumerate(results)
        ],
        "categories": [{"id": k} for k in things],
        "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco
