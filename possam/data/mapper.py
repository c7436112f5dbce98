"""From a dataset's dict to a model's input: one mapper for training and test, for every kind of dataset.

Shapes: H×W the transformed image, T targets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import Transform
from numpy.typing import NDArray
from pycocotools import mask as mask_coder
from torch import Tensor

from possam.d2.data import transforms as T
from possam.d2.structures import Instances
from possam.data.annotations import UNLABELED, read_instances, read_label_map, read_segments
from possam.data.augmentations import whole_image
from possam.data.catalog import IGNORE_LABEL
from possam.data.checks import image_size, pixel_size
from possam.data.id_maps import distinct, index_ids
from possam.data.pictures import decode_rgb, decoding
from possam.layers.segment_masks import SegmentMasks
from possam.vocabulary import Vocabulary

__all__ = ["FeatureSource", "SegmentationMapper", "read_rgb", "sample_key"]

# A byte plane holds indices modulo 255: the value 255 is what padding writes (seg_pad_value), thus void.
_PLANE = 255


class FeatureSource(Protocol):
    """Where cached features of the frozen encoders come from."""

    def get(self, key: str) -> Mapping[str, Mapping[int, Tensor]] | None:
        """The features stored under a `sample_key`, or None."""
        ...


def sample_key(file_name: str, image: Tensor, *, flipped: bool) -> str:
    """Key in a feature cache of a whole image at the size of `image` (3×H×W), plain or mirrored."""
    height, width = image.shape[-2:]
    return f"{file_name}:{height}x{width}:{'flip' if flipped else 'plain'}"


def read_rgb(path: str) -> NDArray[np.uint8]:
    """Read an image as H×W×3 uint8 RGB, as `possam.data.pictures.to_rgb` does.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: the file does not decode; the message names it.
    """
    with decoding(f"image {path}", missing="check image_root", fix="copy or download it again"):
        return decode_rgb(path)


class SegmentationMapper:
    """Callable that turns one dict of a dataset into one input of a model.

    The result has ``image`` (3×H×W uint8 RGB in [0, 255]), ``height`` and ``width`` (of the image on disk),
    ``image_id``, ``file_name``, ``vocabulary``; in training ``instances`` with ``gt_classes`` (T int64,
    contiguous) and ``gt_masks``: one target a panoptic segment where the dict has a panoptic annotation, else one a
    class that its label map shows (`SegmentMasks` of T masks of H×W), else one an instance (T×H×W bool tensor, since
    these masks may overlap). Targets that cropping leaves nothing of are dropped, and crowds are none, so that T may
    be 0. Where the dict has ``labels`` instead, so has the result: positions in the vocabulary, int64, of the classes
    that the whole image shows, however it is cropped. Where ``image`` shows the whole image, resized at most once and
    perhaps mirrored, ``features`` are there too if the cache has them.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | Transform],
        is_train: bool,
        vocabulary: Vocabulary,
        ignore_label: int = IGNORE_LABEL,
        feature_cache: FeatureSource | None = None,
    ) -> None:
        """
        Args:
            augmentations: applied in order, to image and annotation alike (`build_augmentations`).
            is_train: whether to read the annotation and give targets.
            vocabulary: the dataset's classes; travels with every sample, so models need none of their own.
            ignore_label: value of unlabeled pixels in the dataset's label maps.
            feature_cache: features of the frozen encoders by `sample_key`, or None.
        """
        self.augmentations = T.AugmentationList(list(augmentations))
        self.is_train = is_train
        self.vocabulary = vocabulary
        self.ignore_label = ignore_label
        self.feature_cache = feature_cache

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """
        Raises:
            FileNotFoundError: the image or a file of its annotation is not there.
            UnreadableFile: the image or a file of its annotation does not decode.
            ValueError: sizes differ, or ids or classes are not those of the dataset.
        """
        image = read_rgb(record["file_name"])
        size = image_size(record)
        if image.shape[:2] != size:
            raise ValueError(
                f"image {record['file_name']} is {pixel_size(image.shape)} (after its EXIF orientation), "
                f"but the JSON says {pixel_size(size)}; use the image of this annotation, or correct the JSON."
            )
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        sample = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        sample["image"] = torch.from_numpy(_planes(aug_input.image))
        sample["vocabulary"] = self.vocabulary
        features = self._cached_features(sample, transforms)
        if features is not None:
            sample["features"] = features
        if self.is_train:
            if "labels" in record:
                sample["labels"] = torch.tensor(record["labels"], dtype=torch.int64)
            else:
                sample["instances"] = self._targets(record, transforms)
        return sample

    def _cached_features(
        self, sample: dict[str, Any], transforms: Transform
    ) -> Mapping[str, Mapping[int, Tensor]] | None:
        flipped = whole_image(transforms)
        if flipped is None or self.feature_cache is None:
            return None
        return self.feature_cache.get(sample_key(sample["file_name"], sample["image"], flipped=flipped))

    def _targets(self, record: Mapping[str, Any], transforms: Transform) -> Instances:
        if "pan_seg_file_name" in record:
            index, segments = read_segments(record)
            kept = {i: segment["category_id"] for i, segment in enumerate(segments, 1) if not segment["iscrowd"]}
            return _targets_of_index(index, kept, transforms)
        if "sem_seg_file_name" in record:
            labels = read_label_map(record, ignore_label=self.ignore_label, num_classes=len(self.vocabulary))
            # Positions among the classes that are there fit one byte plane, where 847 classes would need two.
            present = [label for label in distinct(labels).tolist() if label != UNLABELED]
            index = index_ids(labels - UNLABELED, [label - UNLABELED for label in present])  # unlabeled is void, 0
            return _targets_of_index(index, dict(enumerate(present, 1)), transforms)
        instances = read_instances(record, isthing=self.vocabulary.isthing)
        return _targets_of_masks([one for one in instances if not one["iscrowd"]], image_size(record), transforms)


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H×W×3 to 3×H×W, in a fraction of NumPy's time."""
    mirrored = image.strides[1] < 0
    planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    cv2.split(image[:, ::-1] if mirrored else image, list(planes))
    if mirrored:
        for plane in planes:
            cv2.flip(plane, 1, plane)
    return planes


def _unmirrored(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """The same, where it is a mirrored view as an array of its own: a copy that takes NumPy ten times as long."""
    return cv2.flip(pixels[:, ::-1], 1) if pixels.strides[1] < 0 else pixels


def _targets_of_index(index: NDArray[np.int64], classes: Mapping[int, int], transforms: Transform) -> Instances:
    """Targets of a map of small indices: the class of each index that is one."""
    index = np.require(transform_index(index, transforms), requirements=("C", "W"))  # as PyTorch wants it
    kept = [i for i in distinct(index).tolist() if i in classes]
    targets = Instances(index.shape)
    targets.gt_classes = torch.tensor([classes[i] for i in kept], dtype=torch.int64)
    targets.gt_masks = SegmentMasks(torch.from_numpy(index), torch.tensor(kept))
    return targets


def _targets_of_masks(
    instances: Sequence[Mapping[str, Any]], size: tuple[int, int], transforms: Transform
) -> Instances:
    """Targets of run-length masks, which may overlap, one by one."""
    # Transformed even where there is no instance, because its shape is that of the targets.
    covered = transforms.apply_segmentation(np.zeros(size, dtype=np.uint8))
    classes, masks = [], []
    for instance in instances:
        # Padding writes a value that is neither 0 nor 1.
        mask = _unmirrored(transforms.apply_segmentation(mask_coder.decode(instance["segmentation"]))) == 1
        if mask.any():
            classes.append(instance["category_id"])
            masks.append(mask)
    targets = Instances(covered.shape)
    targets.gt_classes = torch.tensor(classes, dtype=torch.int64)
    targets.gt_masks = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *covered.shape), dtype=bool))
    return targets


def transform_index(index: NDArray[np.integer], transforms: Transform) -> NDArray[np.integer]:
    """Send a map of small indices (0 = void) through the transforms of its image, exactly.

    Segmentations are resized without loss, and on the same pixel grid as the image, only as bytes (wider
    integers go another way, which refuses them or samples other pixels). So an index travels as one byte
    plane, or as more where an image has over 254 segments. Padding is void. Returns uint8 where that is enough.
    """
    if index.max(initial=0) < _PLANE:
        plane = _unmirrored(transforms.apply_segmentation(index.astype(np.uint8)))
        return np.where(plane == _PLANE, 0, plane) if plane.max(initial=0) == _PLANE else plane
    high = transform_index(index // _PLANE, transforms).astype(np.int64)
    low = transforms.apply_segmentation((index % _PLANE).astype(np.uint8))
    return np.where(low == _PLANE, 0, high * _PLANE + low)
