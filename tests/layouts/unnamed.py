"""SA-1B: pictures with a JSON of masks without names beside each."""

from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_coder

from tests.layouts.drawing import Size, save_json


def make_unnamed(root: Path, *, images: int = 2, size: Size = (20, 30), suffix: str = ".png") -> None:
    """sa_<n> and sa_<n>.json, n from 1, each with a fixed rectangle and one that moves with n, which may overlap."""
    root.mkdir(parents=True, exist_ok=True)
    height, width = size
    for number in range(1, images + 1):
        Image.fromarray(np.full((*size, 3), 40 * number, np.uint8)).save(root / f"sa_{number}{suffix}")
        masks = [np.zeros(size, np.uint8, order="F") for _ in range(2)]
        masks[0][height // 10 : height // 2 - 1, width // 10 : width // 2] = 1
        left = number * width // 3
        masks[1][height // 4 : height - 2, left : left + width // 3 - 1] = 1
        runs = [mask_coder.encode(mask) for mask in masks]
        annotations = [
            {
                "id": place,
                "segmentation": {"size": list(size), "counts": one["counts"].decode()},
                "bbox": mask_coder.toBbox(one).tolist(),
                "area": int(mask_coder.area(one)),
                "predicted_iou": 0.9,
                "stability_score": 0.97,
                "point_coords": [[4.0, 5.0]],
            }
            for place, one in enumerate(runs)
        ]
        image = {"image_id": number, "file_name": f"sa_{number}{suffix}", "height": height, "width": width}
        save_json(root / f"sa_{number}.json", {"image": image, "annotations": annotations})
