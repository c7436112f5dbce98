"""From a dataset's dict to a model's input: one mapper for training and test, for every panoptic dataset.

Shapes: H×W the transformed image, T targets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.transforms.transform import Transform
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from torch import Tensor

from possam.d2.data import detection_utils as utils
from possam.d2.data import transforms as T
from possam.d2.structures import Instances
from possam.data.augmentations import whole_image
from possam.data.id_maps import check_ids, read_id_map
from possam.vocabulary import Vocabulary

__all__ = ["FeatureSource", "PanopticMapper", "read_rgb", "sample_key"]

# A byte plane holds indices modulo 255: the value 255 is what padding writes (seg_pad_value), thus void.
_PLANE = 255


class FeatureSource(Protocol):
    """Where cached features of the frozen encoders come from."""

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The features stored under a `sample_key`, or None."""
        ...


def sample_key(file_name: str, image: Tensor, *, flipped: bool) -> str:
    """Key in a feature cache of a whole image at the size of `image` (3×H×W), plain or mirrored."""
    height, width = image.shape[-2:]
    return f"{file_name}:{height}x{width}:{'flip' if flipped else 'plain'}"


def read_rgb(path: str) -> NDArray[np.uint8]:
    """Read an image as H×W×3 uint8 RGB, turned as its EXIF orientation says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not decode; the message names it.
    """
    try:
        return utils.read_image(path, format="RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} does not exist; check image_root.") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"image {path} does not decode ({error}); copy or download it again.") from error


class PanopticMapper:
    """Callable that turns one dict of `load_panoptic` into one input of a model.

    The result has ``image`` (3×H×W uint8 RGB in [0, 255]), ``height`` and ``width`` (of the image on disk),
    ``image_id``, ``file_name``, ``vocabulary``; in training ``instances`` with ``gt_classes`` (T int64,
    contiguous) and ``gt_masks`` (T×H×W bool tensor), one per segment that is left after cropping. Crowd
    segments are no targets. An image with no segment, or with none but crowds, has T = 0. Where ``image`` shows the
    whole image, resized at most once and perhaps mirrored, ``features`` are there too if the cache has them.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | Transform],
        is_train: bool,
        vocabulary: Vocabulary,
        feature_cache: FeatureSource | None = None,
    ) -> None:
        """
        Args:
            augmentations: applied in order, to image and id map alike (`build_augmentations`).
            is_train: whether to read the panoptic PNG and give targets.
            vocabulary: the dataset's classes; travels with every sample, so models need none of their own.
            feature_cache: features of the frozen encoders by `sample_key`, or None.
        """
        self.augmentations = T.AugmentationList(list(augmentations))
        self.is_train = is_train
        self.vocabulary = vocabulary
        self.feature_cache = feature_cache

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """
        Raises:
            FileNotFoundError: the image or its PNG is not there.
            ValueError: a file does not decode, sizes differ, or the PNG's ids are not those of the JSON.
        """
        image = read_rgb(record["file_name"])
        size = (int(record["height"]), int(record["width"]))
        if image.shape[:2] != size:
            raise ValueError(
                f"image {record['file_name']} is {_size(image.shape[:2])} (after its EXIF orientation), "
                f"but the JSON says {_size(size)}; use the image of this annotation, or correct the JSON."
            )
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        pixels = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))
        sample = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        sample["image"] = torch.from_numpy(pixels)
        sample["vocabulary"] = self.vocabulary
        features = self._cached_features(sample, transforms)
        if features is not None:
            sample["features"] = features
        if self.is_train:
            sample["instances"] = self._targets(record, size, transforms)
        return sample

    def _cached_features(self, sample: dict[str, Any], transforms: Transform) -> dict[str, Tensor] | None:
        flipped = whole_image(transforms)
        if flipped is None or self.feature_cache is None:
            return None
        return self.feature_cache.get(sample_key(sample["file_name"], sample["image"], flipped=flipped))

    def _targets(self, record: Mapping[str, Any], size: tuple[int, int], transforms: Transform) -> Instances:
        path, segments = record["pan_seg_file_name"], record["segments_info"]
        id_map = read_id_map(path)
        if id_map.shape != size:
            raise ValueError(
                f"panoptic PNG {path} is {_size(id_map.shape)}, but its image {record['file_name']} is "
                f"{_size(size)}; the two must have the same size."
            )
        index = check_ids(id_map, [segment["id"] for segment in segments], source=path)
        index = transform_index(index, transforms)
        counts = np.bincount(index.ravel(), minlength=len(segments) + 1)
        kept = [i for i, segment in enumerate(segments) if not segment["iscrowd"] and counts[i + 1] > 0]
        places = torch.tensor([i + 1 for i in kept], dtype=torch.int64)
        targets = Instances(index.shape)
        targets.gt_classes = torch.tensor([segments[i]["category_id"] for i in kept], dtype=torch.int64)
        targets.gt_masks = torch.from_numpy(index)[None] == places[:, None, None]
        return targets


def transform_index(index: NDArray[np.int64], transforms: Transform) -> NDArray[np.int64]:
    """Send a map of small indices (0 = void) through the transforms of its image, exactly.

    Segmentations are resized without loss, and on the same pixel grid as the image, only as bytes (wider
    integers go another way, which refuses them or samples other pixels). So an index travels as one byte
    plane, or as more where an image has over 254 segments. Padding is void.
    """
    planes: list[NDArray[np.uint8]] = []
    rest = index
    while not planes or rest.any():
        planes.append(transforms.apply_segmentation((rest % _PLANE).astype(np.uint8)))
        rest = rest // _PLANE
    result = np.zeros(planes[0].shape, dtype=np.int64)
    for plane in reversed(planes):
        result = result * _PLANE + plane
    result[planes[0] == _PLANE] = 0
    return result


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[0]} (width×height)"
