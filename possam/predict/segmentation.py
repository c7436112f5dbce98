"""The segmentation of one image as plain data, and its other forms."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.data.id_maps import write_id_map
from possam.data.run_lengths import encode_mask
from possam.models.explanation import MaskExplanation, MaskScores, explain_mask
from possam.predict.missing import MissingWord
from possam.predict.prompted_result import PromptedResult
from possam.predict.refinement import refined
from possam.predict.summary import describe_found, png_bytes
from possam.utils.files import write_json
from possam.utils.messages import did_you_mean
from possam.visualize import draw_explanation, draw_panoptic
from possam.vocabulary import Vocabulary

__all__ = ["Segmentation"]

_TASKS = ("semantic", "instance")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Segmentation:
    """The panoptic segmentation of one image, as plain data: no model is in it, and all of it can be pickled.

    It holds copies of the arrays it is given. Two are equal where image, segmentation, segments, vocabulary and file
    name are, and the hash is that of this content, which must not be changed while the segmentation is in a set or a
    dict.

    Attributes:
        image: H×W×3 uint8 RGB, upright.
        segmentation: H×W int32, the `id` of every pixel's segment, 0 where there is none.
        segments_info: a dict a segment, ids counting from 1: ``id``, ``label`` (display name), ``label_id`` (position
            in the vocabulary), ``isthing``, ``score`` in [0, 1], ``iou`` in [0, 1] (predicted quality of the mask),
            ``seen_confidence`` in [0, 1] (that training showed such a thing: the confidence of the ensemble in use, or
            CLIP's probability of the training names where that ensemble has none), ``area`` in pixels, ``bbox``
            [x, y, width, height] in pixels, ``query`` (which of the model's masks it is; of joined stuff the best one),
            ``top`` (the five names with the best scores of this mask, [(name, score), …]). A segment that `refine`
            changed has ``refined``, True; ids have gaps where `refine` took all of a segment. Of a hierarchy also
            ``path`` (a dict a level from the top down: ``label``, ``label_id``, ``probability`` among the siblings;
            the last one is the segment's label) and ``path_probability``, the product; ``score`` is then that of
            `Hierarchy.node_scores`.
        vocabulary: the classes asked for; of a hierarchy all nodes.
        file_name: where the image came from, or "".
        missing: the classes without a segment, with what their best masks were named instead (`MissingWord`).
        semantic: H×W int64, the class (position in the vocabulary) of every pixel, −1 where a background word is best;
            there is no other void. None unless it was asked for: ``predictor(image, words, tasks=["semantic"])``.
        instances: things one by one, best first, which may overlap: ``label``, ``label_id``, ``score`` in [0, 1],
            ``bbox`` [x, y, width, height] in pixels, ``mask`` H×W bool. None unless asked for: ``tasks=["instance"]``.
        mask_scores: what `explain` reads; None in a segmentation that was built from its data alone.
    """

    image: NDArray[np.uint8]
    segmentation: NDArray[np.int32]
    segments_info: list[dict[str, Any]]
    vocabulary: Vocabulary
    file_name: str = ""
    missing: tuple[MissingWord, ...] = ()
    semantic: NDArray[np.int64] | None = None
    instances: list[dict[str, Any]] | None = None
    mask_scores: MaskScores | None = None

    def __post_init__(self) -> None:
        vars(self).update(
            image=np.array(self.image),
            segmentation=np.array(self.segmentation),
            segments_info=copy.deepcopy(list(self.segments_info)),
        )

    def __repr__(self) -> str:
        return f"Segmentation({describe_found(self.image, self.segments_info, self.file_name)})"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return png_bytes(self.plot())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segmentation):
            return NotImplemented
        plain = ("segments_info", "vocabulary", "file_name")
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("image", "segmentation")
        )

    def __hash__(self) -> int:
        content = (self.image.tobytes(), self.segmentation.tobytes())
        return hash((self.image.shape, *content, tuple(self.labels), self.file_name))

    def __copy__(self) -> Segmentation:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Segmentation:
        return replace(self)

    @property
    def labels(self) -> list[str]:
        """The segments' names, in their order."""
        return [info["label"] for info in self.segments_info]

    def to_coco(self, *, image_id: int | str = 0, file_name: str = "") -> dict[str, Any]:
        """The annotation of this image in the COCO panoptic format, whose PNG is `id_to_rgb` of `segmentation`.

        Args:
            file_name: of the PNG.

        Returns:
            ``image_id``, ``file_name``, and ``segments_info`` with ``category_id``s of the vocabulary's dataset; of a
            hierarchy with ``path`` and ``path_probability``, too.
        """
        segments = [
            {
                "id": info["id"],
                "category_id": self.vocabulary.categories[info["label_id"]].dataset_id,
                "area": info["area"],
                "bbox": info["bbox"],
                "iscrowd": 0,
                "score": info["score"],
            }
            | self._coco_path(info)
            for info in self.segments_info
        ]
        return {"image_id": image_id, "file_name": file_name, "segments_info": segments}

    def _coco_path(self, info: dict[str, Any]) -> dict[str, Any]:
        if "path" not in info:
            return {}
        levels = [
            {
                "category_id": self.vocabulary.categories[level["label_id"]].dataset_id,
                "name": level["label"],
                "probability": level["probability"],
            }
            for level in info["path"]
        ]
        return {"path": levels, "path_probability": info["path_probability"]}

    def to_coco_instances(self, *, image_id: int | str = 0) -> list[dict[str, Any]]:
        """The things among the segments in the COCO results format; they do not overlap.

        Returns:
            A dict a thing, in the segments' order: ``image_id``, ``category_id`` (of the vocabulary's dataset),
            ``segmentation`` (compressed run lengths), ``bbox`` [x, y, width, height] and ``area`` in pixels, ``score``.
        """
        return [
            {
                "image_id": image_id,
                "category_id": self.vocabulary.categories[info["label_id"]].dataset_id,
                "segmentation": encode_mask(self.segmentation == info["id"]),
                "bbox": info["bbox"],
                "area": info["area"],
                "score": info["score"],
            }
            for info in self.segments_info
            if info["isthing"]
        ]

    def to_supervision(self) -> Any:
        """The segments as `supervision.Detections`: boxes XYXY, masks, scores, class ids and ``class_name``.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision needs the package supervision; run: pip install supervision") from error
        count = len(self.segments_info)
        if not count:
            return supervision.Detections.empty()
        boxes = np.array([info["bbox"] for info in self.segments_info], dtype=np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return supervision.Detections(
            xyxy=boxes,
            mask=np.stack([self.segmentation == info["id"] for info in self.segments_info]),
            confidence=np.array([info["score"] for info in self.segments_info], dtype=np.float32),
            class_id=np.array([info["label_id"] for info in self.segments_info], dtype=int),
            data={"class_name": np.array(self.labels)},
        )

    def refine(self, segment_id: int, prompted: PromptedResult, *, rename: bool = False) -> Segmentation:
        """Replace a segment's mask by that of a prompt.

        Pixels of the new mask are taken from the segments that have them. Pixels of the old mask alone then belong to
        no segment (0). A segment without a pixel left is removed, the others keep their ids. `semantic`, `instances`,
        `missing` and `explain` are not changed by the new mask.

        Args:
            segment_id: of the segment; that at a pixel is ``segmentation[y, x]``.
            prompted: one mask on the same image, of any `Predictor.prompt`.
            rename: give the segment the name, the score and the best names of `prompted`, whose vocabulary must be this
                one. By default they stay, and ``iou`` alone is that of the new mask.

        Returns:
            A new Segmentation; this one does not change.

        Raises:
            ValueError: there is no such segment; `prompted` has not one mask, or an empty one, or is of another image;
                or, to rename, it has another vocabulary, or the name is that of a hierarchy.
        """
        return refined(self, segment_id, prompted, rename=rename)

    def plot(self, path: str | Path | None = None, *, opacity: float = 0.5, labels: bool = True) -> Image.Image:
        """Draw the segments over the image; with `path`, save the picture there, too."""
        infos = [{**info, "category_id": info["label_id"]} for info in self.segments_info]
        drawn = draw_panoptic(
            self.image, self.segmentation, infos, self.vocabulary.display_names, opacity=opacity, labels=labels
        )
        picture = Image.fromarray(drawn)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        return picture

    def explain(self, segment_id: int | None = None, *, query: int | None = None, top: int = 5) -> MaskExplanation:
        """Explain the name of a mask; of a hierarchy all nodes are compared, whatever is above them.

        Args:
            segment_id: of a segment; of joined stuff the mask with the best score is explained. Or else
            query: of any of the model's masks, also one that became no segment.
            top: how many names to list of each.

        Raises:
            ValueError: neither or both are given, there is no such segment or query, or the segmentation was built
                without `mask_scores`.
        """
        if (segment_id is None) == (query is None):
            raise ValueError("give either the id of a segment or a query.")
        if query is None:
            queries = {info["id"]: info["query"] for info in self.segments_info}
            if segment_id not in queries:
                raise ValueError(f"there is no segment {segment_id!r}; the segments are {list(queries)}.")
            query = queries[segment_id]
        if self.mask_scores is None:
            raise ValueError(
                "this Segmentation has no mask_scores, which explain reads: it was built from its data alone; explain "
                "one that a Predictor gave."
            )
        return explain_mask(self.mask_scores, self.vocabulary, query, top=top)

    def plot_mask(self, segment_id: int, *, top: int = 5) -> Image.Image:
        """Draw a segment and why it got its name (`draw_explanation`); for arguments and errors see `explain`."""
        explanation = self.explain(segment_id, top=top)
        return Image.fromarray(draw_explanation(self.image, self.segmentation == segment_id, explanation))

    def save_coco(self, folder: str | Path, name: str) -> Path:
        """Write `folder`/`name`.png (ids as colors) and `folder`/`name`.json (COCO panoptic, with its categories).

        Returns:
            The JSON's path.
        """
        write_id_map(Path(folder) / f"{name}.png", self.segmentation)
        height, width = self.segmentation.shape
        content = {
            "images": [{"id": name, "file_name": self.file_name or f"{name}.png", "height": height, "width": width}],
            "annotations": [self.to_coco(image_id=name, file_name=f"{name}.png")],
            "categories": coco_categories(self.vocabulary),
        }
        path = Path(folder) / f"{name}.json"
        write_json(path, content)
        return path

    def save_coco_instances(self, path: str | Path) -> None:
        """Write `to_coco_instances` as a COCO dataset: one image, its annotations and the categories, as JSON. This is
        what FiftyOne, and tools that convert to labelme's format, import."""
        name = self.file_name or Path(path).stem
        height, width = self.segmentation.shape
        annotations = [
            {"id": number, "iscrowd": 0, **annotation}
            for number, annotation in enumerate(self.to_coco_instances(image_id=1), start=1)
        ]
        images = [{"id": 1, "file_name": name, "height": height, "width": width}]
        content = {"images": images, "annotations": annotations, "categories": coco_categories(self.vocabulary)}
        write_json(path, content)


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises ValueError unless `tasks` are outputs that a `Segmentation` may have beside the panoptic one."""
    for task in [tasks] if isinstance(tasks, str) else tasks:
        if task not in _TASKS or isinstance(tasks, str):
            raise ValueError(
                f"tasks is {tasks!r}, but must be a list of {' and '.join(map(repr, _TASKS))}; the panoptic "
                f"segmentation is always there.{did_you_mean(task, _TASKS)}"
            )


def describe_instances(found: Any, vocabulary: Vocabulary, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Detected instances (`Instances` of the post-processing) as the dicts of `Segmentation.instances`.

    Args:
        size: (height, width) of the image, to which masks and boxes are enlarged.
    """
    height, width = size
    boxes = found.pred_boxes.tensor.cpu()
    boxes = boxes * boxes.new_tensor([width, height] * 2) / boxes.new_tensor(found.image_size[::-1] * 2)
    return [
        {
            "label": vocabulary.display_names[label],
            "label_id": label,
            "score": score,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "mask": enlarge(mask.cpu().numpy(), size),
        }
        for label, score, (x1, y1, x2, y2), mask in zip(
            found.pred_classes.tolist(), found.scores.tolist(), boxes.tolist(), found.pred_masks, strict=True
        )
    ]


def enlarge(values: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """A map of labels at another (height, width), each pixel taking the nearest label; itself where nothing changes."""
    if values.shape == tuple(size):
        return values
    rows, columns = (
        ((np.arange(wanted) + 0.5) * have / wanted).astype(np.int64)
        for wanted, have in zip(size, values.shape, strict=True)
    )
    return values[rows[:, None], columns]


def coco_categories(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """A vocabulary as the ``categories`` of COCO's formats."""
    return [{"id": c.dataset_id, "name": c.dataset_name, "isthing": int(c.isthing)} for c in vocabulary.categories]

