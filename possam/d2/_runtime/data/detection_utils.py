"""Reading images and annotations, and carrying annotations through transforms."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from PIL import Image, ImageOps

from ..structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, polygons_to_bitmask
from ..utils.file_io import PathManager
from . import transforms as T
from .catalog import MetadataCatalog

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "check_metadata_consistency",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "read_image",
    "transform_instance_annotations",
]

# ITU-R BT.601 with U and V in their analogue ranges, and its inverse.
_RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])


class SizeMismatchError(ValueError):
    """An image file is not of the size that its annotation claims."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """A PIL image as an array in ``format`` (see `read_image`); None keeps the image's own mode."""
    if format is None:
        return np.asarray(image)
    pixels = np.asarray(image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format))
    if format == "BGR":
        return pixels[:, :, ::-1]
    if format == "YUV-BT.601":
        return pixels / 255.0 @ _RGB_TO_YUV.T
    return pixels[:, :, None] if format == "L" else pixels


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """An H×W×C image in ``format`` (see `read_image`) as H×W×3 RGB, 0..255."""
    pixels = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
    if format == "BGR":
        return pixels[:, :, ::-1]
    if format == "YUV-BT.601":
        return pixels @ _YUV_TO_RGB.T * 255.0
    pixels = pixels.astype(np.uint8)
    if format == "RGB":
        return pixels
    if format == "L":
        return np.repeat(pixels[:, :, :1], 3, axis=2)
    height, width = pixels.shape[:2]
    # Not by Image.fromarray, whose mode argument is on its way out.
    return np.asarray(Image.frombytes(format, (width, height), pixels.tobytes()).convert("RGB"))


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file, turned upright by its EXIF orientation.

    Args:
        file_name: path or URL.
        format: a PIL mode, "BGR", or "YUV-BT.601"; None keeps the file's mode.

    Returns:
        H×W×C uint8 0..255, or float with Y in 0..1 for YUV. "L" has one channel.
    """
    with PathManager.open(file_name, "rb") as file:
        return convert_PIL_to_numpy(ImageOps.exif_transpose(Image.open(file)), format)


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Compare an image with the "width" and "height" of its dict, or fill them in where they are missing.

    Raises:
        SizeMismatchError: they disagree.
    """
    height, width = image.shape[:2]
    claimed = (dataset_dict.setdefault("height", height), dataset_dict.setdefault("width", width))
    if claimed != (height, width):
        raise SizeMismatchError(
            f"the image {dataset_dict.get('file_name', '')} is {height}×{width} (height × width), "
            f"but its annotation says {claimed[0]}×{claimed[1]}: correct the annotation"
        )


def transform_instance_annotations(
    annotation: dict[str, Any], transforms: Any, image_size: tuple[int, int], *, keypoint_hflip_indices: Any = None
) -> dict[str, Any]:
    """Carry the box and the segmentation of one instance through transforms, in place.

    Args:
        annotation: "bbox" with "bbox_mode", and perhaps "segmentation": polygons or COCO's RLE.
        transforms: a `TransformList` or a list of transforms.
        image_size: (height, width) after the transforms.
        keypoint_hflip_indices: here for Detectron2's signature; keypoints are not supported.

    Returns:
        The annotation: its box clipped to the image and XYXY_ABS, its polygons moved, its RLE become a bitmask.

    Raises:
        ValueError: the segmentation is neither polygons nor RLE, or there are keypoints.
    """
    if "keypoints" in annotation:
        raise ValueError("keypoints are not part of the built-in runtime: remove them, or install Detectron2")
    if isinstance(transforms, (tuple, list)):
        transforms = T.TransformList(list(transforms))
    height, width = image_size
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    moved = transforms.apply_box(np.array([box]))[0]
    annotation["bbox"] = np.minimum(moved.clip(min=0), [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" not in annotation:
        return annotation
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        outlines = transforms.apply_polygons([np.asarray(outline).reshape(-1, 2) for outline in segmentation])
        annotation["segmentation"] = [outline.reshape(-1) for outline in outlines]
    elif isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        assert mask.shape[:2] == tuple(image_size), (mask.shape, image_size)
        annotation["segmentation"] = mask
    else:
        raise ValueError(f"a segmentation is a list of polygons or an RLE dict, but {type(segmentation)} came")
    return annotation


def _bitmask(segmentation: Any, image_size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation)
    if isinstance(segmentation, np.ndarray):
        assert segmentation.ndim == 2, f"a mask is H×W, but the shape is {segmentation.shape}"
        return segmentation
    raise ValueError(
        f"a segmentation is a list of polygons, an RLE dict or an H×W array, but {type(segmentation)} came"
    )


def annotations_to_instances(
    annos: list[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Training targets from annotations of one image.

    Args:
        annos: "bbox" with "bbox_mode", "category_id", and in all or none "segmentation".
        image_size: (height, width).
        mask_format: "polygon" or "bitmask".

    Returns:
        Instances with gt_boxes, gt_classes (int64) and, if there are segmentations, gt_masks.
    """
    target = Instances(image_size)
    boxes = [BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS) for one in annos]
    target.gt_boxes = Boxes(torch.as_tensor(np.array(boxes).reshape(-1, 4)))
    target.gt_classes = torch.tensor([int(one["category_id"]) for one in annos], dtype=torch.int64)
    if not annos or "segmentation" not in annos[0]:
        return target
    segmentations = [one["segmentation"] for one in annos]
    if mask_format == "polygon":
        try:
            target.gt_masks = PolygonMasks(segmentations)
        except ValueError as error:
            raise ValueError(f"mask_format='polygon' does not fit these annotations: {error}") from error
        return target
    assert mask_format == "bitmask", f"mask_format must be 'polygon' or 'bitmask', but it is '{mask_format}'"
    target.gt_masks = BitMasks(np.stack([_bitmask(one, image_size) for one in segmentations]))
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """Drop targets with an empty box or mask; with ``return_mask`` also give the bools of those kept."""
    assert by_box or by_mask, "nothing to filter by"
    tests = []
    if by_box:
        tests.append(instances.gt_boxes.nonempty(threshold=box_threshold))
    if by_mask and instances.has("gt_masks"):
        tests.append(instances.gt_masks.nonempty())
    if not tests:
        return instances
    kept = torch.stack(tests).all(dim=0)
    return (instances[kept], kept) if return_mask else instances[kept]


def gen_crop_transform_with_instance(crop_size: Any, image_size: Any, instance: dict[str, Any]) -> T.Transform:
    """A random window of ``crop_size`` (height, width) that holds the centre of an instance's box."""
    window, image = np.asarray(crop_size, dtype=np.int64), np.asarray(image_size, dtype=np.int64)
    x0, y0, x1, y1 = BoxMode.convert(instance["bbox"], instance["bbox_mode"], BoxMode.XYXY_ABS)
    centre = np.array([(y0 + y1) / 2, (x0 + x1) / 2])
    assert (image >= centre).all(), "the instance's box lies outside the image"
    assert (image >= window).all(), "the window is larger than the image"
    first = np.maximum(np.floor(centre).astype(np.int64) - window, 0)
    last = np.minimum(image - window, np.ceil(centre).astype(np.int64))
    top, left = (np.random.randint(low, high + 1) for low, high in zip(first, last, strict=True))
    return T.CropTransform(left, top, window[1], window[0])


def check_metadata_consistency(key: str, dataset_names: Any) -> None:
    """ValueError if the datasets do not share one value of the metadata ``key``; AttributeError if one lacks it."""
    values = {name: getattr(MetadataCatalog.get(name), key) for name in dataset_names}
    first = next(iter(values), None)
    for name, value in values.items():
        if value != values[first]:
            raise ValueError(f"'{key}' differs: dataset '{first}' has {values[first]}, dataset '{name}' has {value}")


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """Resizing, and in training flipping, as ``cfg.INPUT`` says."""
    sizes = cfg.INPUT
    if not is_train:
        return [T.ResizeShortestEdge([sizes.MIN_SIZE_TEST], sizes.MAX_SIZE_TEST, "choice")]
    resize = T.ResizeShortestEdge(sizes.MIN_SIZE_TRAIN, sizes.MAX_SIZE_TRAIN, sizes.MIN_SIZE_TRAIN_SAMPLING)
    if sizes.RANDOM_FLIP == "none":
        return [resize]
    if sizes.RANDOM_FLIP not in ("horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP is 'horizontal', 'vertical' or 'none', but it is '{sizes.RANDOM_FLIP}'")
    vertical = sizes.RANDOM_FLIP == "vertical"
    return [resize, T.RandomFlip(horizontal=not vertical, vertical=vertical)]


build_transform_gen = build_augmentation  # its older name
