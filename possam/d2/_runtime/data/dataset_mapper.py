"""From a dataset's dict to a model's input."""

import copy
from typing import Any

import numpy as np
import torch

from ..config import configurable
from ..utils.logger import runtime_logger
from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Reads the image, runs the augmentations on it and its annotations, and makes tensors.

    Out comes the dict with "image" (C×H×W), "sem_seg" (H×W int64) if a file is named for it, and in training
    "instances" if there are annotations.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: Any = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ):
        """
        Args:
            is_train: False drops the annotations.
            augmentations: policies and transforms.
            image_format: see `detection_utils.read_image`.
            use_instance_mask: keep segmentations.
            use_keypoint, keypoint_hflip_indices, precomputed_proposal_topk: not supported; leave the defaults.
            instance_mask_format: "polygon" or "bitmask".
            recompute_boxes: take boxes from the transformed masks rather than transform the boxes.
        """
        if use_keypoint or precomputed_proposal_topk is not None:
            raise ValueError("keypoints and precomputed proposals need Detectron2: the built-in runtime has neither")
        assert use_instance_mask or not recompute_boxes, "recompute_boxes needs use_instance_mask"
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.recompute_boxes = recompute_boxes
        runtime_logger(__name__).info(f"Augmentations ({'training' if is_train else 'inference'}): {augmentations}")

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        crop = cfg.INPUT.CROP.ENABLED and is_train
        augmentations: list[Any] = utils.build_augmentation(cfg, is_train)
        if crop:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            # A cropped box may be looser than the part of the object left inside the crop.
            "recompute_boxes": crop and cfg.MODEL.MASK_ON,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        item = copy.deepcopy(dataset_dict)
        image = utils.read_image(item["file_name"], format=self.image_format)
        utils.check_image_size(item, image)
        labels_file = item.pop("sem_seg_file_name", None)
        labels = None if labels_file is None else utils.read_image(labels_file, "L").squeeze(2)
        inputs = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(inputs)
        item["image"] = torch.as_tensor(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        if inputs.sem_seg is not None:
            item["sem_seg"] = torch.as_tensor(inputs.sem_seg.astype(np.int64))
        annotations = item.pop("annotations", None)
        if self.is_train and annotations is not None:
            item["instances"] = self._instances(annotations, transforms, inputs.image.shape[:2])
        return item

    def _instances(self, annotations: list[dict[str, Any]], transforms: T.TransformList, size: Any) -> Any:
        unused = {"keypoints"} if self.use_instance_mask else {"keypoints", "segmentation"}
        targets = [
            utils.transform_instance_annotations(
                {key: value for key, value in one.items() if key not in unused}, transforms, size
            )
            for one in annotations
            if not one.get("iscrowd", 0)
        ]
        instances = utils.annotations_to_instances(targets, size, mask_format=self.instance_mask_format)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return utils.filter_empty_instances(instances)
