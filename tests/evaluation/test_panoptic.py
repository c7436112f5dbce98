import contextlib
import io
import json
import logging
import tracemalloc

import numpy as np
import pytest
import torch

from possam.d2.utils import comm
from possam.data import read_id_map
from possam.evaluation.panoptic import PanopticEvaluator, panoptic_quality_from_files
from possam.evaluation.panoptic_quality import PanopticCounts, count_segments


def evaluate(world, output_dir=None, **keywords):
    evaluator = PanopticEvaluator(
        world.name, train_vocabulary=world.train_vocabulary, output_dir=output_dir, **keywords
    )
    evaluator.process(world.inputs(), world.panoptic_outputs())
    return evaluator, evaluator.evaluate()["panoptic_seg"]


def as_ade20k(path):
    """The field's ADE20K: stuff has its label map's area, instances on it included, and may be hidden wholly."""
    content = json.loads(path.read_text())
    stuff = next(category["id"] for category in content["categories"] if not category["isthing"])
    things = {category["id"] for category in content["categories"] if category["isthing"]}
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["area"] = round(segment["area"] * (1 if segment["category_id"] in things else 1.3))
        annotation["segments_info"].append({"id": 2**24 - 1, "category_id": stuff, "iscrowd": 0, "area": 40})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("change", [lambda path: None, as_ade20k])
def test_equals_the_coco_api(world, tmp_path, change):
    pytest.importorskip("panopticapi", reason="the COCO panoptic API is not installed")
    from panopticapi.evaluation import PQStat, pq_compute_single_core

    change(world.json_path)
    evaluator, result = evaluate(world, tmp_path / "out")
    truth = json.loads(world.json_path.read_text())
    predicted = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    by_image = {annotation["image_id"]: annotation for annotation in predicted["annotations"]}
    pairs = [(annotation, by_image[annotation["image_id"]]) for annotation in truth["annotations"]]
    categories = {category["id"]: category for category in truth["categories"]}
    stat = PQStat()
    with contextlib.redirect_stdout(io.StringIO()):
        # One core: the public function starts a process a core, and adds up what this one gives.
        stat += pq_compute_single_core(
            0, pairs, str(world.json_path.parent / "truth"), str(tmp_path / "out" / "panoptic"), categories
        )
    for suffix, isthing in (("", None), ("_th", True), ("_st", False)):
        average, classes = stat.pq_average(categories, isthing)
        for metric in ("PQ", "SQ", "RQ"):
            assert result[metric + suffix] == pytest.approx(100 * average[metric.lower()], abs=1e-9)
        assert 0 < average["pq"] < 1 and classes
    for row, category in zip(evaluator.per_class, categories, strict=True):
        expected = stat.pq_per_cat[category]
        assert (row["TP"], row["FP"], row["FN"]) == (expected.tp, expected.fp, expected.fn)
    assert sum(row["TP"] for row in evaluator.per_class) > 20 < sum(row["FP"] for row in evaluator.per_class)


def test_hidden_stuff_is_a_miss_and_hidden_things_are_an_error(world):
    _, before = evaluate(world)
    as_ade20k(world.json_path)
    evaluator, after = evaluate(world)
    assert after["PQ"] < before["PQ"] and after["PQ_th"] == before["PQ_th"]
    thing = world.vocabulary.categories[0].dataset_id
    text = world.json_path.read_text().replace('"id": 16777215, "category_id": 13', f'"id": 1, "category_id": {thing}')
    world.json_path.write_text(text)
    with pytest.raises(ValueError, match=r"segment ids \[1\].*no pixel in the PNG"):
        evaluate(world)


def test_groups_are_means_over_their_classes(world):
    evaluator, result = evaluate(world)
    for suffix, classes in {
        "_th": (0, 2, 4),
        "_st": (1, 3, 5),
        "_seen": (0, 3, 5),
        "_unseen": (1, 2, 4),
    }.items():
        for metric in ("PQ", "SQ", "RQ"):
            mean = np.mean([evaluator.per_class[k][metric] for k in classes])
            assert result[metric + suffix] == pytest.approx(mean)


def test_written_predictions_are_complete_and_score_the_same(world, tmp_path):
    _, result = evaluate(world, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == list(world.predictions)
    assert {c["id"]: c["isthing"] for c in content["categories"]} == {
        10 * k + 3: (k + 1) % 2 for k in range(8)
    }
    for annotation in content["annotations"]:
        ids, segments = world.predictions[annotation["image_id"]]
        png = read_id_map(tmp_path / "out" / "panoptic" / annotation["file_name"])
        np.testing.assert_array_equal(png, ids)
        assert len(annotation["segments_info"]) == len(segments)
        for written, segment in zip(annotation["segments_info"], segments, strict=True):
            y, x = np.nonzero(ids == segment["id"])
            assert written == {
                "id": segment["id"],
                "category_id": 10 * segment["category_id"] + 3,
                "area": len(y),
                "bbox": [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1],
                "iscrowd": 0,
                "score": segment["score"],
            }
    again = panoptic_quality_from_files(
        ground_truth_json=world.json_path,
        prediction_json=tmp_path / "out" / "panoptic.json",
        vocabulary=world.vocabulary,
        train_vocabulary=world.train_vocabulary,
    )
    assert again == result
    assert not [path for path in (tmp_path / "out").rglob("*.tmp")]
    table = json.loads((tmp_path / "out" / "panoptic_quality.json").read_text())
    assert table["PQ"] == result["PQ"] and table["classes"][7]["PQ"] is None


def test_perfect_predictions_score_100(world):
    for image_id, (ids, infos) in world.truths.items():
        kept = [dict(info) for info in infos if not info["iscrowd"]]
        world.predictions[image_id] = (np.where(np.isin(ids, [i["id"] for i in kept]), ids, 0), kept)
    _, result = evaluate(world)
    assert result["PQ"] == result["PQ_seen"] == result["RQ_st"] == 100.0


def test_processes_share_the_work_and_each_image_counts_once(world, monkeypatch, tmp_path):
    _, expected = evaluate(world)
    inputs, outputs = world.inputs(), world.panoptic_outputs()
    parts = []
    for chosen in (
        slice(0, 13, 2),
        slice(1, 13, 2),
        slice(0, 1),
    ):  # the third has an image of the first again
        evaluator = PanopticEvaluator(
            world.name, train_vocabulary=world.train_vocabulary, output_dir=tmp_path / "out"
        )
        evaluator.process(inputs[chosen], outputs[chosen])
        evaluator.process(inputs[chosen][:1], outputs[chosen][:1])
        monkeypatch.setattr(comm, "gather", lambda data, dst=0: parts.append(data) or [data])
        evaluator.evaluate()
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: parts)
    assert evaluator.evaluate()["panoptic_seg"] == expected
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [a["image_id"] for a in content["annotations"]] == list(world.truths)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() is None


def test_missing_images_are_told(world, caplog):
    evaluator = PanopticEvaluator(world.name)
    evaluator.process(world.inputs()[:11], world.panoptic_outputs()[:11])
    with caplog.at_level(logging.WARNING):
        result = evaluator.evaluate()["panoptic_seg"]
    assert "2 of 13 images" in caplog.text and "[112, 113]" in caplog.text
    assert "PQ_seen" not in result  # there is no training vocabulary
    evaluator.reset()
    assert np.isnan(evaluator.evaluate()["panoptic_seg"]["PQ"])


def test_errors_name_the_image(world):
    evaluator = PanopticEvaluator(world.name)
    sample, output = world.inputs()[:1], world.panoptic_outputs()[0]
    ids, segments = output["panoptic_seg"]
    with pytest.raises(ValueError, match=r"needs 'panoptic_seg' .* image 101, but there are \['instances'\]"):
        evaluator.process(sample, [{"instances": None}])
    with pytest.raises(ValueError, match=r"image 101 has height×width 20×56, but .*101.jpg has 40×56"):
        evaluator.process(sample, [{"panoptic_seg": (ids[:20], segments)}])
    with pytest.raises(ValueError, match=r"image 101: segment ids \[\d+\] are in the PNG"):
        evaluator.process(sample, [{"panoptic_seg": (ids, segments[1:])}])
    with pytest.raises(ValueError, match=r"image 101 has the classes \[8\].* has 8"):
        evaluator.process(
            sample, [{"panoptic_seg": (ids, [{**segments[0], "category_id": 8}, *segments[1:]])}]
        )
    with pytest.raises(ValueError, match="image id 5 is not in dataset"):
        evaluator.process([{"image_id": 5}], [output])
    with pytest.raises(ValueError, match="unknown dataset 'no_such'"):
        PanopticEvaluator("no_such")


def test_files_are_checked(world, tmp_path):
    evaluate(world, tmp_path / "out")
    path = tmp_path / "out" / "panoptic.json"
    content = json.loads(path.read_text())

    def score(change):
        changed = json.loads(json.dumps(content))
        change(changed["annotations"])
        path.write_text(json.dumps(changed))
        return panoptic_quality_from_files(ground_truth_json=world.json_path, prediction_json=path)

    assert np.isfinite(score(lambda annotations: None)["PQ"])
    with pytest.raises(ValueError, match=r"no annotation for 1 images \(first: \[113\]\)"):
        score(lambda annotations: annotations.pop())
    with pytest.raises(ValueError, match=r"panoptic.json: predicted image ids must be distinct, but \[101\]"):
        score(lambda annotations: annotations.append(annotations[0]))
    with pytest.raises(ValueError, match=r"101.png: segment ids \[999\] are in the JSON"):
        score(lambda annotations: annotations[0]["segments_info"].append({"id": 999, "category_id": 3}))
    with pytest.raises(ValueError, match=r"panoptic.json: image 101: category ids \[4\] are not in the vocabulary"):
        score(lambda annotations: annotations[0]["segments_info"][0].update(category_id=4))
    with pytest.raises(ValueError, match=r"annotations\[0\]: the keys \['file_name'\] are missing"):
        score(lambda annotations: annotations[0].pop("file_name"))
    for key, value, message in (
        ("id", None, r"panoptic.json: image 101: segment ids \[None\] are not integers"),
        ("id", "1", r"panoptic.json: image 101: segment ids \['1'\] are not integers"),
        ("id", [1], r"panoptic.json: image 101: segment ids \[\[1\]\] are not integers"),
        ("category_id", "3", r"panoptic.json: image 101: segment \d+: category_id must be .* but is '3'"),
        ("category_id", [3], r"panoptic.json: image 101: segment \d+: category_id must be .* but is \[3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            score(lambda annotations, key=key, value=value: annotations[0]["segments_info"][0].update({key: value}))
        with pytest.raises(ValueError, match=rf"panoptic.json: image 101: segment .*the keys \['{key}'\] are missing"):
            score(lambda annotations, key=key: annotations[0]["segments_info"][0].pop(key))
    for key, value, message in (
        ("segments_info", None, r"annotations\[0\].segments_info must be a list"),
        ("segments_info", {"1": {}}, r"annotations\[0\].segments_info must be a list"),
        ("segments_info", [7], r"image 101: segment 'number 0': expected an object"),
        ("file_name", None, r"annotations\[0\].file_name must be the name of a file"),
        ("file_name", "102.png", r"PNG names of annotations must be distinct, but \[102.png\]"),
        ("image_id", [1], r"annotations\[0\].image_id must be an integer or a string"),
        ("image_id", "101", r"first: \[101\]\); predict them all. 101 and '101' differ"),
    ):
        with pytest.raises(ValueError, match=rf"panoptic.json.*{message}"):
            score(lambda annotations, key=key, value=value: annotations[0].update({key: value}))
    with pytest.raises(ValueError, match=r"image 101: segment ids must be distinct"):
        score(lambda annotations: annotations[0]["segments_info"].append(annotations[0]["segments_info"][0]))
    with pytest.raises(ValueError, match=r"panoptic.json: annotations\[0\]: expected an object .* got 1"):
        score(lambda annotations: annotations.insert(0, 1))
    world.json_path.write_text(world.json_path.read_text().replace('"height": 40', '"height": 41'))
    with pytest.raises(ValueError, match=r"truth/101.png is 56×40 .* but its JSON says 56×41 .* image 101"):
        score(lambda annotations: None)
    world.json_path.write_text(world.json_path.read_text().replace('"height": 41', '"height": 40'))
    with pytest.raises(FileNotFoundError, match="1 panoptic PNGs .* missing: .*101.png.*Check prediction_root"):
        (tmp_path / "out" / "panoptic" / "101.png").unlink()
        score(lambda annotations: None)


def test_predictions_whose_own_categories_are_others_are_refused(world, tmp_path):
    evaluate(world, tmp_path / "out")
    path = tmp_path / "out" / "panoptic.json"
    content = json.loads(path.read_text())

    def score(categories):
        path.write_text(json.dumps({**content, "categories": categories}))
        return panoptic_quality_from_files(ground_truth_json=world.json_path, prediction_json=path)["PQ"]

    first, second, *rest = content["categories"]
    swapped = [{**first, "name": second["name"]}, {**second, "name": first["name"]}, *rest]
    with pytest.raises(ValueError, match=rf"panoptic.json: its categories .*id {first['id']} is '{second['name']}'"):
        score(swapped)
    with pytest.raises(ValueError, match=r"panoptic.json: categories\[0\].name must be a string"):
        score([{**first, "name": None}])
    whole = score(content["categories"])
    assert score([]) == score(None) == score([{"id": first["id"], "name": "of another spelling"}]) == whole


def test_equal_png_names_in_two_folders_stay_two_files(world, tmp_path):
    evaluator = PanopticEvaluator(world.name, output_dir=tmp_path / "out")
    records = evaluator.ground_truth.records
    root = world.json_path.parent / "truth"
    for image_id, folder in ((101, "a"), (102, "b")):
        (root / folder).mkdir()
        (root / f"{image_id}.png").rename(root / folder / "same.png")
        records[image_id]["pan_seg_file_name"] = str(root / folder / "same.png")
    evaluator.process(world.inputs()[:2], world.panoptic_outputs()[:2])
    evaluator.evaluate()
    for image_id, folder in ((101, "a"), (102, "b")):
        written = read_id_map(tmp_path / "out" / "panoptic" / folder / "same.png")
        np.testing.assert_array_equal(written, world.predictions[image_id][0])


def test_memory_does_not_grow_with_classes_and_images(world):
    """847 classes, 250 predicted segments: an image leaves rows, never a table of classes by classes."""
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, n + 1, (300, 300)) for n in (60, 250))
    tracemalloc.start()
    rows = count_segments(
        truth=truth,
        truth_classes=rng.integers(0, 847, 60),
        truth_crowd=np.zeros(60, bool),
        truth_areas=np.full(60, -1),
        prediction=prediction,
        prediction_classes=rng.integers(0, 847, 250),
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.nbytes <= 5 * 8 * (60 + 250)
    assert peak < 847 * 847 * 8 < 6e6
    assert PanopticCounts.total([rows] * 3, 847).fn.sum() == 3 * 60


def test_tensors_of_any_device_and_type(world):
    _, expected = evaluate(world)
    for image_id, (ids, infos) in world.predictions.items():
        world.predictions[image_id] = (ids.astype(np.int64), infos)
    assert evaluate(world)[1] == expected
    assert isinstance(world.panoptic_outputs()[0]["panoptic_seg"][0], torch.Tensor)
