"""Annotation JSONs and PNGs of any content: records that are true, or a ValueError or FileNotFoundError."""

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_coder

from possam.data.annotations import read_instances, read_label_map, read_segments
from possam.data.id_maps import write_id_map
from possam.data.instances import load_instances
from possam.data.panoptic import load_panoptic
from possam.data.semantic import load_semantic
from possam.evaluation import panoptic_quality_from_files
from possam.vocabulary import Vocabulary
from tests.fuzz.mutations import OTHERS, cases, damaged, mutated, read

VOCABULARY = Vocabulary.from_names(["dog", "cat", "grass"], isthing=[True, True, False], name="fuzz")
H, W = 8, 6
IDS = np.zeros((H, W), np.int64)
IDS[:4], IDS[4:6], IDS[6, :3] = 7, 300, 70_000


def _run_lengths(kind):
    mask = np.asfortranarray(IDS == 7, dtype=np.uint8)
    if kind == "compressed":
        rle = mask_coder.encode(mask)
        return {"size": [H, W], "counts": rle["counts"].decode()}
    return {"size": [H, W], "counts": [0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]}


def _segments():
    return [
        {"id": 7, "category_id": 0, "iscrowd": 0, "area": 24, "bbox": [0, 0, 6, 4]},
        {"id": 300, "category_id": 1, "iscrowd": 1, "area": 12, "bbox": [0, 4, 6, 2]},
        {"id": 70_000, "category_id": 2, "iscrowd": 0, "area": 3, "bbox": [0, 6, 3, 1]},
    ]


def _images(**more):
    return [
        {"id": image, "file_name": f"{image}.jpg", "height": H, "width": W, "coco_url": f"http://a/{image}.jpg", **more}
        for image in (1, "b")
    ]


def _instance(number, image, category, segmentation, crowd=0):
    return {
        "id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "area": 24, "bbox": [0, 0, 6, 4],
        "segmentation": segmentation,
    }  # fmt: skip


CATEGORIES = [{"id": 0, "name": "dog", "isthing": 1}, {"id": 1, "name": "cat", "isthing": 1}]
STUFF = {"id": 2, "name": "grass", "isthing": 0}
PANOPTIC = {
    "images": _images(),
    "annotations": [
        {"image_id": image, "file_name": f"{image}.png", "segments_info": _segments()} for image in (1, "b")
    ],
    "categories": [*CATEGORIES, STUFF],
}
INSTANCES = {
    "images": _images(neg_category_ids=[1], not_exhaustive_category_ids=[0]),
    "annotations": [
        _instance(1, 1, 0, [[0, 0, 6, 0, 6, 4, 0, 4]]),
        _instance(2, 1, 1, _run_lengths("compressed")),
        _instance(3, "b", 1, _run_lengths("plain"), crowd=1),
    ],
    "categories": CATEGORIES,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    for image in (1, "b"):
        Image.new("RGB", (W, H)).save(folder / f"{image}.jpg")
        write_id_map(folder / f"{image}.png", IDS)
    return folder


def check_panoptic(folder, path, image_names="file_name"):
    def records_of():
        return load_panoptic(
            image_root=folder, panoptic_root=folder, panoptic_json=path, vocabulary=VOCABULARY, image_names=image_names
        )

    records = read(records_of, path)
    for record in records or []:
        segments = read(lambda record=record: read_segments(record), folder)
        read(lambda record=record: read_label_map(record, ignore_label=255, num_classes=3), folder)
        read(lambda record=record: read_instances(record, isthing=VOCABULARY.isthing), folder)
        if segments is not None:
            assert segments[0].shape == (H, W) and segments[0].max() <= len(segments[1])
    return records


def check_instances(folder, path, federated, image_names="file_name"):
    def records_of():
        return load_instances(
            image_root=folder,
            instances_json=path,
            vocabulary=VOCABULARY,
            federated=federated,
            image_names=image_names,
        )

    records = read(records_of, path)
    for record in records or []:
        for instance in read(lambda record=record: read_instances(record, isthing=VOCABULARY.isthing), folder) or []:
            run = instance["segmentation"]
            size = [record["height"], record["width"]]
            assert run["size"] == size
            # pycocotools leaves what runs do not reach as it found the memory, so twice may differ.
            if np.prod(size) < 1 << 20:
                mask = mask_coder.decode(run)
                assert set(np.unique(mask)) <= {0, 1} and mask.sum() == mask_coder.area(run)
    return records


def test_the_whole_files_are_read(place):
    (place / "whole.json").write_text(json.dumps(PANOPTIC))
    assert len(check_panoptic(place, place / "whole.json")) == 2
    (place / "whole.json").write_text(json.dumps(INSTANCES))
    for federated in (True, False):
        records = check_instances(place, place / "whole.json", federated)
        runs = [instance["segmentation"] for record in records for instance in read_instances(record, isthing=())]
        assert [mask_coder.area(run) for run in runs] == [24, 24, 24]


@cases(400)
@given(content=mutated(PANOPTIC), image_names=st.sampled_from(["file_name", "id", "png"]))
def test_a_panoptic_json_of_any_content(place, content, image_names):
    path = place / "panoptic.json"
    path.write_text(json.dumps(content))
    check_panoptic(place, path, image_names)


@cases(300)
@given(content=damaged(json.dumps(PANOPTIC).encode()))
def test_a_panoptic_json_of_any_bytes(place, content):
    path = place / "panoptic.json"
    path.write_bytes(content)
    check_panoptic(place, path)


@cases(200)
@given(content=mutated(PANOPTIC), predicted=st.booleans())
def test_scored_panoptic_jsons_of_any_content(place, content, predicted):
    paths = place / "scored.json", place / "other.json"
    for path, written in zip(paths, (content, PANOPTIC), strict=True):
        path.write_text(json.dumps(written))
    truth, prediction = paths[::-1] if predicted else paths

    def score():
        return panoptic_quality_from_files(
            ground_truth_json=truth, prediction_json=prediction, ground_truth_root=place, prediction_root=place,
            vocabulary=VOCABULARY if predicted else None,
        )  # fmt: skip

    found = read(score, *paths, place)
    assert found is None or np.isnan(found["PQ"]) or 0 <= found["PQ"] <= 100


@cases(500)
@given(content=mutated(INSTANCES), image_names=st.sampled_from(["file_name", "id", "coco_url"]))
def test_an_instance_json_of_any_content(place, content, image_names):
    path = place / "instances.json"
    path.write_text(json.dumps(content))
    for federated in (False, True):
        check_instances(place, path, federated, image_names)


@cases(150)
@given(content=damaged(json.dumps(INSTANCES).encode()))
def test_an_instance_json_of_any_bytes(place, content):
    path = place / "instances.json"
    path.write_bytes(content)
    check_instances(place, path, False)


@cases(300)
@given(segmentation=mutated([INSTANCES["annotations"][i]["segmentation"] for i in range(3)]))
def test_a_mask_of_any_content(place, segmentation):
    content = {**INSTANCES, "annotations": [
        {**INSTANCES["annotations"][0], "segmentation": one} for one in segmentation
    ] if isinstance(segmentation, list) else segmentation}  # fmt: skip
    path = place / "masks.json"
    path.write_text(json.dumps(content))
    check_instances(place, path, False)


def png(width, height, body=b"", depth=8, color=2):
    """A PNG whose header promises what its body does not hold."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


LIARS = tuple(
    png(width, height, depth=depth, color=color)
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (13_000, 13_000), (2**31 - 1, 1), (0, 0), (W, 0))
    for depth, color in ((8, 2), (16, 0), (1, 3))
)


@cases(500)
@given(content=damaged(png(W, H, bytes(H * (1 + 3 * W))), OTHERS + LIARS))
def test_a_panoptic_png_of_any_bytes(place, content):
    path = place / "one.png"
    path.write_bytes(content)
    record = {**load_record(place), "pan_seg_file_name": str(path)}
    index = read(lambda: read_segments(record), path)
    assert index is None or index[0].shape == (H, W)


def load_record(place):
    return {"file_name": str(place / "1.jpg"), "image_id": 1, "height": H, "width": W, "segments_info": []}


@cases(500)
@given(content=damaged(png(W, H, bytes(H * (1 + W)), color=0), OTHERS + LIARS))
def test_a_label_map_of_any_bytes(place, content):
    path = place / "labels.png"
    path.write_bytes(content)
    record = {**load_record(place), "sem_seg_file_name": str(path)}
    for ignored in (255, 65535):
        labels = read(lambda ignored=ignored: read_label_map(record, ignore_label=ignored, num_classes=3), path)
        assert labels is None or (labels.shape == (H, W) and labels.min() >= -1 and labels.max() < 3)


@cases(200)
@given(content=damaged(png(W, H, bytes(H * (1 + 3 * W))), OTHERS + LIARS))
def test_sizes_of_images_of_any_bytes(place, content):
    images, labels = place / "images", place / "labels"
    for folder in (images, labels):
        folder.mkdir(exist_ok=True)
        (folder / "a.png").write_bytes(content)
    read(lambda: load_semantic(image_root=images, label_root=labels, image_suffix=".png"), images / "a.png")
