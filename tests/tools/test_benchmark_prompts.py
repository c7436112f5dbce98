"""The tables of the miniature Open-Vocabulary SAM, of results that are there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import benchmark_prompts as tool


def test_every_variant_has_a_configuration():
    assert all(Path(variant.config).is_file() for variant in tool.PROMPTED.values())


def test_points_boxes_and_students_have_a_table_each():
    groups = ["", "_base", "_novel", "_small", "_medium"]
    row = {metric + group: 50.0 for metric in ("mIoU", "accuracy") for group in groups}
    row |= {"mIoU_large": None, "accuracy_large": None}
    first = {"point": row, "box": row, "student": {"mse": 0.1, "variance": 0.4}}
    second = {"point": {**row, "mIoU": 60.0}, "box": row, "student": {"mse": 0.3, "variance": 0.4}}
    text = tool.prompted_tables({"SAM2CLIP only": [first, second], "SAM, CLIP on crops": [{"point": row, "box": row}]})
    tables = text.split("\n\n")[1::2]
    points, boxes, students = ([line.split("|") for line in part.splitlines()] for part in tables)
    assert [cell.strip() for cell in points[2][1:4]] == ["SAM2CLIP only", "55.00 ± 7.07", "50.00 ± 0.00"]
    assert [cell.strip() for cell in boxes[3][1:3]] == ["SAM, CLIP on crops", "50.00"] and "–" in points[2][7]
    assert [cell.strip() for cell in students[2][1:5]] == [
        "SAM2CLIP only", "0.2000 ± 0.1414", "0.4000 ± 0.0000", "50.00 ± 35.36"
    ]  # fmt: skip


def test_a_variant_waits_for_the_sam2clip_that_it_starts_from(monkeypatch):
    done = []
    monkeypatch.setattr(tool, "run_prompted", lambda variant, seed, output: done.append((variant, seed)) or {})
    with ThreadPoolExecutor(1) as pool:
        found = tool.run_all_prompted(pool, ["published", "SAM, CLIP on crops"], [1, 2], Path("."))
    assert done.index(("SAM2CLIP only", 1)) < done.index(("published", 1)) and len(done) == 5
    assert {name: len(runs) for name, runs in found.items()} == {"published": 2, "SAM, CLIP on crops": 1}
