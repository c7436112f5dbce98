"""ADE20K-150: label maps, instances and the panoptic annotation made of both."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_coder

from possam.data.preparation import PREPARATIONS
from possam.vocabulary import Vocabulary

ROOT = "ADEChallengeData2016"
# Classes of the layout's instance maps (red) and what they are among the 150, counted from 0.
THINGS = {1: 7, 4: 12, 9: 20, 100: 149}


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int64)


def box(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1]


def test_label_maps_count_from_zero(fresh):
    root = fresh("ade20k") / ROOT
    PREPARATIONS["ade20k_semantic"].run(root.parent)
    for source in sorted(root.glob("annotations/*/*.png")):
        before, after = read(source), read(root / "annotations_detectron2" / source.parent.name / source.name)
        assert {0, 1} & set(before.ravel().tolist())
        assert np.array_equal(after, np.where(before == 0, 255, before - 1))
    names = Vocabulary.load("ade20k_150").categories
    assert names[0].dataset_name.startswith("wall") and names[149].dataset_name.startswith("flag")


def test_instances_in_the_coco_format(fresh):
    root = fresh("ade20k") / ROOT
    PREPARATIONS["ade20k_instance"].run(root.parent)
    vocabulary = Vocabulary.load("ade20k_150")
    for short, folder in (("train", "training"), ("val", "validation")):
        content = json.loads((root / f"ade20k_instance_{short}.json").read_text())
        assert [c["id"] for c in content["categories"]] == [i for i in range(150) if vocabulary.isthing[i]]
        assert len(content["images"]) == 2 and len(content["annotations"]) == 4
        assert content["images"][0] == {
            "id": f"ADE_{short}_00000001",
            "file_name": f"ADE_{short}_00000001.jpg",
            "height": 24,
            "width": 32,
        }
        for number, annotation in enumerate(content["annotations"], start=1):
            pixels = read(root / "annotations_instance" / folder / f"{annotation['image_id']}.png")
            mask = pixels[..., 1] == 2 - number % 2
            assert annotation["id"] == number and annotation["iscrowd"] == 0
            assert annotation["category_id"] == THINGS[int(pixels[mask][0, 0])]
            assert annotation["area"] == mask.sum() and annotation["bbox"] == box(mask)
            assert np.array_equal(mask_coder.decode(annotation["segmentation"]), mask)


def test_panoptic_is_stuff_with_instances_over_it(fresh):
    root = fresh("ade20k") / ROOT
    PREPARATIONS["ade20k_panoptic"].run(root.parent)
    content = json.loads((root / "ade20k_panoptic_val.json").read_text())
    assert [c["id"] for c in content["categories"]] == list(range(150))
    assert sum(c["isthing"] for c in content["categories"]) == 100
    covered = 0
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        name = image["id"]
        assert (annotation["image_id"], annotation["file_name"]) == (name, f"{name}.png")
        assert image == {"id": name, "file_name": f"{name}.jpg", "height": 24, "width": 32}
        rgb = read(root / "ade20k_panoptic_val" / f"{name}.png")
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        labels = read(root / "annotations/validation" / f"{name}.png")
        instances = read(root / "annotations_instance/validation" / f"{name}.png")
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(ids)) - {0} == set(segments) and len(segments) == 4
        for y, x in np.ndindex(ids.shape):
            red, green, _ = instances[y, x]
            if green:
                assert segments[ids[y, x]]["category_id"] == THINGS[red]
            elif labels[y, x] == 0 or labels[y, x] - 1 in THINGS.values():
                assert ids[y, x] == 0
            else:
                assert segments[ids[y, x]]["category_id"] == labels[y, x] - 1
        for segment in segments.values():
            if segment["category_id"] in THINGS.values():
                mask = ids == segment["id"]
            else:
                # The field measures stuff before the instances cover it.
                mask = labels == segment["category_id"] + 1
                covered += int(mask.sum() - (ids == segment["id"]).sum())
            assert segment["area"] == mask.sum() and segment["bbox"] == box(mask) and segment["iscrowd"] == 0
    assert covered > 0, "the layout must have instances that reach over stuff"


def test_stuff_below_an_instance_stays_listed_without_a_pixel(fresh):
    """As in the field's files, whose scores count such a segment as missed."""
    root = fresh("ade20k") / ROOT
    path = root / "annotations/validation/ADE_val_00000001.png"
    below = read(root / "annotations_instance/validation/ADE_val_00000001.png")[..., 1] == 1
    Image.fromarray(np.where(below, 10, read(path)).astype(np.uint8)).save(path)
    PREPARATIONS["ade20k_panoptic"].run(root.parent, splits=["val"])
    annotation = json.loads((root / "ade20k_panoptic_val.json").read_text())["annotations"][0]
    grass = next(segment for segment in annotation["segments_info"] if segment["category_id"] == 9)
    assert (grass["id"], grass["area"]) == (10, int(below.sum()))
    rgb = read(root / "ade20k_panoptic_val/ADE_val_00000001.png")
    assert not (rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2] == 10).any()


def test_an_instance_of_two_classes_or_of_none_is_named(fresh):
    root = fresh("ade20k") / ROOT
    path = root / "annotations_instance/validation/ADE_val_00000002.png"
    pixels = read(path).astype(np.uint8)
    right = int(pixels[pixels[..., 1] == 1][0, 0])
    for wrong, found in ((101, f"{right}, 101"), (0, f"0, {right}")):
        damaged = pixels.copy()
        damaged[tuple(np.argwhere(pixels[..., 1] == 1)[0])][0] = wrong
        Image.fromarray(damaged).save(path)
        with pytest.raises(ValueError, match=rf"{path}: instance 1 \(green\) has the classes \[{found}\]"):
            PREPARATIONS["ade20k_instance"].run(root.parent)
        assert not (root / "ade20k_instance_val.json").exists()


def test_maps_of_other_sizes_and_values_are_named(fresh):
    root = fresh("ade20k") / ROOT
    path = root / "annotations/training/ADE_train_00000001.png"
    Image.fromarray(np.full((24, 32), 151, dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path} has the values \[151\], but 1 … 150, and 0 for all else, are"):
        PREPARATIONS["ade20k_semantic"].run(root.parent)
    Image.fromarray(np.ones((10, 32), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"has the size \(24, 32\) \(height, width\), but .* has \(10, 32\)"):
        PREPARATIONS["ade20k_panoptic"].run(root.parent)
    Image.fromarray(np.ones((24, 32, 3), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path} has mode RGB, but L or P is expected"):
        PREPARATIONS["ade20k_semantic"].run(root.parent)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing: \[.*ADE_train_00000001.png\]. Download"):
        PREPARATIONS["ade20k_panoptic"].run(root.parent)


def test_another_projects_annotation_is_kept_and_completed(fresh):
    """Segment ids are arbitrary: a tree with others is whole, and an image that must be made anew fits into it."""
    root = fresh("ade20k") / ROOT
    PREPARATIONS["ade20k_panoptic"].run(root.parent, splits=["val"])
    path = root / "ade20k_panoptic_val.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        png = root / "ade20k_panoptic_val" / annotation["file_name"]
        pixels = read(png)
        pixels[..., 2] = np.where(pixels.any(axis=-1), 9, 0)
        Image.fromarray(pixels.astype(np.uint8)).save(png)
        for segment in annotation["segments_info"]:
            segment["id"] += 9 * 65536
    for category in content["categories"]:
        category["color"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    assert PREPARATIONS["ade20k_panoptic"].run(root.parent, splits=["val"]).written == 0
    png.unlink()
    assert PREPARATIONS["ade20k_panoptic"].run(root.parent, splits=["val"]).written == 2
    mixed = json.loads(path.read_text())
    assert mixed["annotations"][0] == content["annotations"][0]
    pixels = read(png)
    ids = set(np.unique(pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2])) - {0}
    assert {segment["id"] for segment in mixed["annotations"][1]["segments_info"]} == ids


def test_official_scenes(tmp_path):
    """Three scenes of the real validation set, where this machine has them."""
    place = os.environ.get("POSSAM_ADE20K_SAMPLE")
    sample = Path(place) if place else Path(__file__).parents[4] / "shared/data/ade20k_scene_parsing_sample"
    if not (sample / "annotations").is_dir():
        pytest.skip("no ADE20K sample: set POSSAM_ADE20K_SAMPLE to the folder of images/ and annotations/")
    target = tmp_path / ROOT / "annotations/validation"
    target.mkdir(parents=True)
    for path in (sample / "annotations").glob("*.png"):
        (target / path.name).write_bytes(path.read_bytes())
    assert PREPARATIONS["ade20k_semantic"].run(tmp_path, splits=["val"]).written == 3
    for path in target.iterdir():
        before, after = read(path), read(tmp_path / ROOT / "annotations_detectron2/validation" / path.name)
        assert before.max() <= 150 and np.array_equal(after, (before - 1) % 256)
