import numpy as np

from possam.predict.summary import describe_found, found_line, read_found
from possam.utils.files import write_json
from possam.vocabulary.words import read_words

IMAGE = np.zeros((10, 20, 3), np.uint8)
FOUND = [
    {"label": "cat", "isthing": True, "id": 1, "score": 0.5, "area": 10, "bbox": [0, 0, 5, 2]},
    {"label": "sky", "isthing": False, "id": 2, "score": 0.875, "area": 100, "bbox": [0, 0, 20, 5]},
    {"label": "cat", "isthing": True, "id": 3, "score": 0.25, "area": 20, "bbox": [5, 5, 5, 4]},
]
RECORD = {"image": "a.jpg", "name": "a", "width": 20, "height": 10, "found": FOUND}


def test_a_line_has_each_name_once_and_the_largest_first():
    assert found_line(RECORD) == "a: sky ×1 50.0 % 0.88, cat ×2 15.0 % 0.50"
    assert found_line({**RECORD, "found": []}) == "a: nothing found"


def test_both_kinds_of_predictions_are_read(tmp_path):
    vocabulary = read_words(["cat", "sky: stuff"])
    numbers = {category.names[0]: category.dataset_id for category in vocabulary.categories}
    segments = [{**one, "category_id": numbers[one["label"]], "iscrowd": 0} for one in FOUND]
    images = [{"id": name, "file_name": f"{name}.jpg", "height": 10, "width": 20} for name in ("a", "b")]
    annotations = [{"image_id": "a", "file_name": "a.png", "segments_info": segments}]
    write_json(tmp_path / "panoptic.json", {"images": images, "annotations": annotations})
    nothing = {**RECORD, "image": "b.jpg", "name": "b", "found": []}
    assert list(read_found(tmp_path / "panoptic.json", vocabulary)) == [RECORD, nothing]
    annotations = [{"image_id": "b", **{k: v for k, v in segments[0].items() if k != "id"}}]
    write_json(tmp_path / "instances.json", {"images": images, "annotations": annotations})
    _, second = read_found(tmp_path / "instances.json", vocabulary)
    assert second["found"] == [{k: v for k, v in FOUND[0].items() if k != "id"}]


def test_a_description_lists_few_names():
    assert describe_found(IMAGE, [], "") == "20×10, no segments"
    many = [{"label": f"n{i}"} for i in range(9)]
    assert describe_found(IMAGE, many, "a", "mask") == "'a', 20×10, 9 masks: n0, n1, n2, n3, n4, n5, … 3 more names"
