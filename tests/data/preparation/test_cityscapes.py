"""Cityscapes: against the rules of cityscapesScripts, written out, and against itself where it is installed."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from possam.data.preparation import PREPARATIONS

ROOT = "cityscapes/gtFine"
# Label ids that are scored, in the order of their train ids; those from 24 on are things.
SCORED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int64)


def test_train_ids(fresh):
    root = fresh("cityscapes") / ROOT
    every = root / "val/frankfurt/frankfurt_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.arange(24 * 32).reshape(24, 32).astype(np.uint8) % 34).save(every)
    PREPARATIONS["cityscapes"].run(root.parents[1])
    for source in sorted(root.rglob("*_labelIds.png")):
        before = read(source)
        after = read(source.with_name(source.name.replace("labelIds", "labelTrainIds")))
        assert after.tolist() == [[SCORED.index(v) if v in SCORED else 255 for v in row] for row in before.tolist()]


def test_panoptic(fresh):
    root = fresh("cityscapes") / ROOT
    PREPARATIONS["cityscapes"].run(root.parents[1])
    content = json.loads((root / "cityscapes_panoptic_val.json").read_text())
    assert [(c["id"], c["isthing"]) for c in content["categories"]] == [(i, int(i >= 24)) for i in SCORED]
    assert content["categories"][13] == {
        "id": 26, "name": "car", "color": [0, 0, 142], "supercategory": "vehicle", "isthing": 1
    }  # fmt: skip
    assert [image["id"] for image in content["images"]] == ["frankfurt_000000_000019", "munster_000001_000019"]
    kinds = set()
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        name = image["id"]
        assert annotation["file_name"] == f"{name}_gtFine_panoptic.png"
        assert image["file_name"] == f"{name}_gtFine_leftImg8bit.png"
        source = read(root / "val" / name.split("_")[0] / f"{name}_gtFine_instanceIds.png")
        rgb = read(root / "cityscapes_panoptic_val" / annotation["file_name"])
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        scored = np.isin(np.where(source >= 1000, source // 1000, source), SCORED)
        assert np.array_equal(ids, np.where(scored, source, 0))
        assert [segment["id"] for segment in annotation["segments_info"]] == np.unique(ids[ids > 0]).tolist()
        for segment in annotation["segments_info"]:
            number = segment["id"]
            category = number // 1000 if number >= 1000 else number
            assert segment["category_id"] == category and segment["area"] == (source == number).sum()
            assert segment["iscrowd"] == int(category >= 24 and number < 1000)
            kinds.add((category >= 24, segment["iscrowd"]))
    assert kinds == {(False, 0), (True, 0), (True, 1)}


def test_unknown_ids_are_named(fresh):
    root = fresh("cityscapes")
    path = root / ROOT / "train/aachen/aachen_000000_000019_gtFine_instanceIds.png"
    Image.fromarray(np.full((24, 32), 34_001, dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match=f"{path} has the value 34001, but label ids 0 … 33"):
        PREPARATIONS["cityscapes"].run(root)
    labels = path.with_name(path.name.replace("instance", "label"))
    Image.fromarray(np.full((24, 32), 255, dtype=np.uint8)).save(labels)
    with pytest.raises(ValueError, match=rf"{labels} has the values \[255\], but Cityscapes' label ids 0 … 33"):
        PREPARATIONS["cityscapes"].run(root)


@pytest.mark.skipif(
    importlib.util.find_spec("cityscapesscripts") is None, reason="cityscapesscripts is not installed"
)
def test_equal_to_cityscapesscripts(fresh, monkeypatch):
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
    from cityscapesscripts.preparation.createTrainIdLabelImgs import main as make_train_ids

    ours, theirs = fresh("cityscapes", "ours"), fresh("cityscapes", "theirs")
    PREPARATIONS["cityscapes"].run(ours)
    monkeypatch.setenv("CITYSCAPES_DATASET", str(theirs / "cityscapes"))
    make_train_ids()
    convert2panoptic(setNames=["train", "val"])
    pictures = sorted(p.relative_to(theirs) for p in (theirs / ROOT).rglob("*.png"))
    assert len(pictures) == 5 * 4
    for path in pictures:
        assert np.array_equal(read(ours / path), read(theirs / path)), path
    for split in ("train", "val"):
        name = f"{ROOT}/cityscapes_panoptic_{split}.json"
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())
    shutil.rmtree(theirs)
