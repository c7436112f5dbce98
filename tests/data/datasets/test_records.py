"""Each dataset from a tiny tree in its own layout to records, and from these to what its annotation says."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_coder

from possam.data import id_to_rgb, read_instances, read_label_map, read_segments
from possam.data.datasets import SPECS, find_spec, load_records
from tests.layouts import make_coco, make_lvis, make_mapillary

SEMANTIC_ONLY = [name for name, spec in SPECS.items() if spec.tasks == ("semantic",)]


def make_semantic(spec, root, names=("a", "b")):
    """Images of 6×4 (width×height) and label maps: the first class, the last, and a column of nothing."""
    files, last = spec.semantic, len(spec.load_vocabulary()) - 1
    labels = np.zeros((4, 6), dtype=files.dtype)
    labels[2:] = last
    labels[:, 0] = files.ignore_label
    for name in names:
        for folder, suffix, pixels in (
            (spec.image_folder, spec.image_suffix, labels.astype(np.uint8)),
            (files.folder, files.suffix, labels),
        ):
            path = root / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return last


@pytest.mark.parametrize("name", SEMANTIC_ONLY)
def test_semantic_datasets(tmp_path, name):
    spec = find_spec(name)
    last = make_semantic(spec, tmp_path)
    records = load_records(spec, tmp_path)
    assert [(r["image_id"], r["height"], r["width"]) for r in records] == [("a", 4, 6), ("b", 4, 6)]
    for record in records:
        labels = read_label_map(record, ignore_label=spec.semantic.ignore_label, num_classes=last + 1)
        assert (labels[:, 0] == -1).all() and (labels[:2, 1:] == 0).all() and (labels[2:, 1:] == last).all()


@pytest.mark.parametrize("name", SPECS)
def test_what_is_missing_comes_with_what_to_do(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        load_records(find_spec(name), tmp_path)
    assert find_spec(name).fix in str(caught.value)


def test_coco_panoptic(tmp_path):
    make_coco(tmp_path)
    spec = find_spec("coco_panoptic_val")
    records = load_records(spec, tmp_path)
    vocabulary = spec.load_vocabulary()
    assert [record["image_id"] for record in records] == [201, 202]
    for record in records:
        things = [s for s in record["segments_info"] if s["isthing"]]
        assert [a["category_id"] for a in record["annotations"]] == [s["category_id"] for s in things]
        assert [a["iscrowd"] for a in record["annotations"]] == [s["iscrowd"] for s in things]
        index, segments = read_segments(record)
        labels = read_label_map(record, ignore_label=255, num_classes=133)
        for place, segment in enumerate(segments, start=1):
            assert (labels[index == place] == segment["category_id"]).all()
        for one, segment in zip(read_instances(record, isthing=vocabulary.isthing), things, strict=True):
            place = segments.index(segment) + 1
            np.testing.assert_array_equal(mask_coder.decode(one["segmentation"]) == 1, index == place)
    assert "annotations" not in load_records(find_spec("coco_panoptic_train"), tmp_path)[0]


def test_panoptic_images_must_have_instances(tmp_path):
    make_coco(tmp_path)
    path = tmp_path / "coco/annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 201]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_val2017.json does not list the images \[202\]"):
        load_records(find_spec("coco_panoptic_val"), tmp_path)


def test_coco_instances(tmp_path):
    make_coco(tmp_path)
    spec = find_spec("coco_instance_val")
    records = load_records(spec, tmp_path)
    names = [spec.load_vocabulary().display_names[a["category_id"]] for a in records[0]["annotations"]]
    panoptic = find_spec("coco_panoptic_val").load_vocabulary()
    contiguous = [a["category_id"] for a in load_records(find_spec("coco_panoptic_val"), tmp_path)[0]["annotations"]]
    assert names == [panoptic.display_names[i] for i in contiguous]


def test_ade20k_panoptic_has_all_three_annotations(tmp_path):
    spec = find_spec("ade20k_panoptic_val")
    things = spec.load_vocabulary().things()
    thing = things.categories[0]
    make_semantic(spec, tmp_path, ("ADE_val_00000001",))
    image = {"id": "ADE_val_00000001", "file_name": "ADE_val_00000001.jpg", "height": 4, "width": 6}
    segment = {"id": 9, "category_id": thing.dataset_id, "iscrowd": 0}
    panoptic = {"image_id": image["id"], "file_name": "ADE_val_00000001.png", "segments_info": [segment]}
    # The two JSONs are joined by the images' names, whatever their ids are.
    instance = {"image_id": 7, "category_id": thing.dataset_id, "bbox": [0, 0, 6, 4], "area": 24}
    instance["segmentation"] = {"size": [4, 6], "counts": [0, 24]}
    (tmp_path / spec.panoptic.folder).mkdir()
    png = tmp_path / spec.panoptic.folder / panoptic["file_name"]
    Image.fromarray(id_to_rgb(np.full((4, 6), 9))).save(png)
    (tmp_path / spec.panoptic.json).write_text(json.dumps({"images": [image], "annotations": [panoptic]}))
    (tmp_path / spec.instances.json).write_text(json.dumps({"images": [{**image, "id": 7}], "annotations": [instance]}))
    (record,) = load_records(spec, tmp_path)
    category = spec.load_vocabulary().contiguous_id[thing.dataset_id]
    assert record["segments_info"][0]["category_id"] == record["annotations"][0]["category_id"] == category
    assert record["image_id"] == "ADE_val_00000001"
    assert set(np.unique(read_label_map(record, ignore_label=255, num_classes=150))) == {-1, 0, 149}
    (tmp_path / spec.semantic.folder / "ADE_val_00000001.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 label maps of ade20k_panoptic_val are missing: .*data prepare ade20k"
    ):
        load_records(spec, tmp_path)


def test_cityscapes_images_are_found_by_id(tmp_path):
    """The JSON's file names are those of no file; ids are text."""
    spec = find_spec("cityscapes_panoptic_val")
    name = "frankfurt_000001_000019"
    make_semantic(spec, tmp_path, (f"frankfurt/{name}",))
    image = {"id": name, "file_name": f"{name}_gtFine_leftImg8bit.png", "height": 4, "width": 6}
    segments = [{"id": 7, "category_id": 7, "iscrowd": 0}, {"id": 26_001, "category_id": 26, "iscrowd": 0}]
    annotation = {"image_id": name, "file_name": f"{name}_gtFine_panoptic.png", "segments_info": segments}
    (tmp_path / spec.panoptic.folder).mkdir(parents=True)
    ids = np.full((4, 6), 7)
    ids[:2] = 26_001
    Image.fromarray(id_to_rgb(ids)).save(tmp_path / spec.panoptic.folder / annotation["file_name"])
    path = tmp_path / spec.panoptic.json
    path.write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    (record,) = load_records(spec, tmp_path)
    assert record["image_id"] == name
    assert record["file_name"] == str(tmp_path / f"cityscapes/leftImg8bit/val/frankfurt/{name}_leftImg8bit.png")
    assert record["sem_seg_file_name"] == str(
        tmp_path / f"cityscapes/gtFine/val/frankfurt/{name}_gtFine_labelTrainIds.png"
    )
    names = spec.load_vocabulary().display_names
    assert [names[s["category_id"]] for s in record["segments_info"]] == ["road", "car"]
    (tmp_path / f"cityscapes/leftImg8bit/val/frankfurt/{name}_leftImg8bit.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 images of .* are missing: .*{name}_leftImg8bit.png"):
        load_records(spec, tmp_path)


def test_mapillary_label_maps_and_pngs_agree(tmp_path):
    make_mapillary(tmp_path)
    spec = find_spec("mapillary_panoptic_train")
    for record in load_records(spec, tmp_path):
        assert record["file_name"].endswith(f"training/images/{record['image_id']}.jpg")
        labels = read_label_map(record, ignore_label=spec.semantic.ignore_label, num_classes=65)
        del record["sem_seg_file_name"]
        np.testing.assert_array_equal(labels, read_label_map(record, ignore_label=255, num_classes=65))


def test_lvis_images_lie_where_their_urls_say(tmp_path):
    make_lvis(tmp_path)
    spec = find_spec("lvis_instance_val")
    records = load_records(spec, tmp_path)
    assert [record["file_name"] for record in records] == [
        str(tmp_path / "coco/val2017/000000000401.jpg"),
        str(tmp_path / "coco/train2017/000000000402.jpg"),
    ]
    assert records[0]["neg_category_ids"] == [1, 999]
    first = records[0]["annotations"][0]["category_id"]
    assert records[0]["not_exhaustive_category_ids"] == [first]
