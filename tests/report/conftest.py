"""An evaluation on disk: four images of a street, predicted from well to badly, and the dataset it is about.

Three segments an image, side by side: "cat & <b>dog</b>" (thing), "bus" (thing, unseen), "road" (stuff).
"""

import json

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import id_to_rgb, register_panoptic
from possam.evaluation import PanopticEvaluator
from possam.utils.files import write_json
from possam.vocabulary import Category, Vocabulary

HEIGHT, WIDTH = 40, 60
NAMES = ("cat & <b>dog</b>", "bus", "road", "never there")
# Image → for each annotated segment the name it is given (a class), or None where it is not found.
GIVEN = {11: (0, 1, 2), 12: (0, 0, 2), 13: (1, 1, None), 14: (1, 0, None)}
IOUS = (0.9, 0.6, 0.8)


def truth():
    ids = np.repeat(np.array([5, 70_000, 9]), 20)[None].repeat(HEIGHT, 0)
    ids[:2] = 0
    return ids


def prediction(given):
    ids, infos = np.zeros((HEIGHT, WIDTH), np.int32), []
    for place, category in enumerate(given):
        if category is not None:
            ids[:, 20 * place : 20 * place + 18] = place + 1
            infos.append({"id": place + 1, "category_id": category, "isthing": category < 2, "score": 0.5})
    return ids, infos


@pytest.fixture
def evaluation(tmp_path):
    """The folder of the evaluation; its dataset is "street"."""
    vocabulary = Vocabulary(
        name="street",
        categories=tuple(Category(names=(name,), isthing=k < 2, dataset_id=100 + k) for k, name in enumerate(NAMES)),
    )
    content = {"images": [], "annotations": [], "categories": []}
    for category in vocabulary.categories:
        entry = {"id": category.dataset_id, "name": category.names[0], "isthing": int(category.isthing)}
        content["categories"].append(entry)
    for folder in ("images", "panoptic"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for image_id in GIVEN:
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{image_id}.png")
        Image.fromarray(id_to_rgb(truth())).save(tmp_path / "panoptic" / f"{image_id}.png")
        image = {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH}
        content["images"].append(image)
        segments = [
            {"id": i, "category_id": 100 + k, "area": 38 * 20, "bbox": [20 * k, 2, 20, 38], "iscrowd": 0}
            for k, i in enumerate((5, 70_000, 9))
        ]
        content["annotations"].append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments})
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    register_panoptic(
        "street",
        image_root=tmp_path / "images",
        panoptic_root=tmp_path / "panoptic",
        panoptic_json=tmp_path / "panoptic.json",
        vocabulary=vocabulary,
    )
    folder = tmp_path / "run" / "evaluation" / "street"
    train = Vocabulary.from_names([NAMES[0], "road"], name="train")
    train.to_json(tmp_path / "train.json")
    _evaluate(folder, train, tmp_path)
    yield folder
    DatasetCatalog.remove("street")
    MetadataCatalog.remove("street")


def _evaluate(folder, train, root):
    import torch

    evaluator = PanopticEvaluator("street", train_vocabulary=train, output_dir=folder)
    outputs = {image_id: prediction(given) for image_id, given in GIVEN.items()}
    for image_id, (ids, infos) in outputs.items():
        evaluator.process([{"image_id": image_id}], [{"panoptic_seg": (torch.from_numpy(ids), infos)}])
    results = evaluator.evaluate()
    written = json.loads((folder / "panoptic.json").read_text())
    for annotation in written["annotations"]:
        for info in annotation["segments_info"]:
            info["iou"] = IOUS[info["id"] - 1]
    write_json(folder / "panoptic.json", written)
    other = {key: 50.0 for key in results["panoptic_seg"]}
    config = {
        "MODEL": {"TRAIN_VOCABULARY": str(root / "train.json"), "ENSEMBLE": {"NAME": "mase"}},
        "DATASETS": {"TRAIN": [], "PANOPTIC": [], "SEMANTIC": []},
        "OUTPUT_DIR": "<output>",
    }
    origin = {"date": "2026-01-02T03:04:05+00:00", "commit": "c0ffee", "versions": {"torch": "9.9"}, "config": config}
    origin |= {"ensemble": {"name": "mase", "constants": {}}, "frozen": {"sam": {"name": "mini", "fingerprint": "f00"}}}
    write_json(
        folder / "results.json",
        {
            **results,
            "iou_head": {"spearman_segments": 0.456},
            "compare": {"mase": results["panoptic_seg"], "ldp": other},
            "dataset": {"name": "street", "images": 4},
            "provenance": origin,
        },
    )
