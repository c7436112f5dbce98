import numpy as np

from possam.predict.summary import describe_found, found_line, found_record

IMAGE = np.zeros((10, 20, 3), np.uint8)
FOUND = [
    {"id": 1, "label": "cat", "isthing": True, "score": 0.5, "area": 10, "bbox": [0, 0, 5, 2], "query": 3},
    {"id": 2, "label": "sky", "isthing": False, "score": 0.875, "area": 100, "bbox": [0, 0, 20, 5], "query": 4},
    {"id": 3, "label": "cat", "isthing": True, "score": 0.25, "area": 20, "bbox": [5, 5, 5, 4], "query": 5},
]


def test_a_line_has_each_name_once_and_the_largest_first():
    assert found_line("a.jpg", FOUND, 200) == "a.jpg: sky ×1 50.0 % 0.88, cat ×2 15.0 % 0.50"
    assert found_line("a.jpg", [], 200) == "a.jpg: nothing found"


def test_a_record_has_what_is_plain():
    record = found_record("a.jpg", IMAGE, FOUND[:1])
    only = {"id": 1, "label": "cat", "isthing": True, "score": 0.5, "area": 10, "bbox": [0, 0, 5, 2]}
    assert record == {"image": "a.jpg", "width": 20, "height": 10, "found": [only]}


def test_a_description_lists_few_names():
    assert describe_found(IMAGE, [], "") == "20×10, no segments"
    many = [{"label": f"n{i}"} for i in range(9)]
    assert describe_found(IMAGE, many, "a", "mask") == "'a', 20×10, 9 masks: n0, n1, n2, n3, n4, n5, … 3 more names"
