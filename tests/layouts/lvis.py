"""LVIS v1: instance annotations on COCO's images; an image's classes are known only where it says so."""

from pathlib import Path

from tests.layouts.drawing import Size, boxes, classes_of, rectangle, save_json, save_photo

CLASSES = (1, 7, 450, 1203)


def make_lvis(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """lvis/lvis_v1_{train,val}.json and the pictures in coco/{train,val}2017.

    The last image of val lies in coco/train2017, as some of the official validation set do.
    """
    categories = [
        {"id": n, "name": f"object_{n}", "synset": f"object.n.{n}", "frequency": "rcf"[n % 3]}
        for n in range(1, 1204)
    ]
    for split, first in (("train", 301), ("val", 401)):
        infos, annotations = [], []
        for number in range(first, first + images):
            elsewhere = split == "val" and number == first + images - 1
            path = f"{'train' if elsewhere else split}2017/{number:012d}.jpg"
            save_photo(root / "coco" / path, number, size)
            things = classes_of(number, CLASSES, CLASSES)[2:]
            infos.append(
                {
                    "id": number,
                    "coco_url": f"http://images.cocodataset.org/{path}",
                    "height": size[0],
                    "width": size[1],
                    "neg_category_ids": [2, 1000],
                    "not_exhaustive_category_ids": things[:1],
                }
            )
            for category, (region, box) in zip(things, boxes(number, size).items(), strict=True):
                top, left, bottom, right = box
                annotations.append(
                    {
                        "id": 10 * number + region,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
                        "area": float((right - left) * (bottom - top)),
                        "segmentation": [rectangle(box)],
                    }
                )
        content = {"info": {}, "licenses": [], "images": infos, "annotations": annotations, "categories": categories}
        save_json(root / "lvis" / f"lvis_v1_{split}.json", content)
