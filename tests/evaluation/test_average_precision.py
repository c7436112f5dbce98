"""COCO's and LVIS's average precision: the libraries agree, and LVIS's rules by hand."""

import importlib.util
import json
import pickle

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_coder

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.structures import Instances
from possam.evaluation import InstanceEvaluator, ap_library
from possam.evaluation import average_precision as ap
from possam.vocabulary import Vocabulary

SIZE = (20, 30)
SPOTS = [(r, c) for r in range(0, 20, 5) for c in range(0, 30, 5)]  # 24 places for squares that never touch


def square(spot, shift=0):
    """A 5×5 square at a place of `SPOTS`; `shift` pixels to the right cost IoU: (5−s)/(5+s)."""
    row, column = SPOTS[spot]
    mask = np.zeros(SIZE, np.uint8)
    mask[row : row + 5, column + shift : column + shift + 5] = 1
    return mask


def annotation(mask, category, **keys):
    runs = mask_coder.encode(np.asfortranarray(mask))
    return {"category_id": category, "area": float(mask.sum()), "segmentation": runs, **keys}


def random_images(seed, *, count=30, classes=5):
    """Instances with crowds, predictions of all qualities, equal scores among them."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        spots, labels = rng.permutation(24), rng.integers(0, classes, 24)
        number, missed = rng.integers(0, 9), rng.integers(0, 3)
        truth = [
            annotation(square(spot), int(labels[spot]), iscrowd=int(rng.random() < 0.15)) for spot in spots[:number]
        ]
        for instance in truth:
            instance["area"] *= float(rng.choice([1, 100, 1000]))
        predictions = []
        for spot in rng.choice(spots[missed : number + 3], 12):
            label = labels[spot] if rng.random() < 0.8 else rng.integers(classes)
            shifted = square(spot, int(rng.integers(0, 3)) if SPOTS[spot][1] < 25 else 0)
            predictions.append(annotation(shifted, int(label), score=float(rng.integers(0, 10) / 10)))
        images.append(ap.ImageInstances(size=SIZE, truth=truth, predictions=predictions))
    return images


def plain_coco(images, classes, library=ap.COCO, evaluator=ap.COCOeval):
    """COCOeval's precision over all classes at once, as its own users call it."""
    tables = {}
    for key in ("truth", "predictions"):
        every = [{**a, "image_id": n} for n, image in enumerate(images) for a in getattr(image, key)]
        tables[key] = library()
        tables[key].dataset = {
            "images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(len(images))],
            "categories": [{"id": k, "name": str(k)} for k in classes],
            "annotations": [{**a, "id": i} for i, a in enumerate(every, start=1)],
        }
        tables[key].createIndex()
    evaluation = evaluator(tables["truth"], tables["predictions"], "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


@pytest.fixture
def pycocotools_only(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("seed", [0, 1])
def test_class_by_class_is_all_at_once(seed, pycocotools_only):
    images, classes = random_images(seed), [0, 1, 2, 3, 4, 7]
    table = ap.precision_table(images, classes)
    np.testing.assert_array_equal(table, plain_coco(images, classes))
    assert (table[..., :5, 0] >= 0).all() and (table[..., 5, :] == -1).all() and 0.03 < table[..., :5, 0].mean() < 0.9
    assert len({float(table[..., area].sum()) for area in range(4)}) == 4
    assert ap_library().startswith("pycocotools ") == ap_library(federated=True).startswith("pycocotools ")


@pytest.mark.skipif(importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_faster_library_gives_the_same(seed, monkeypatch):
    images, classes = random_images(seed), [0, 1, 2, 3, 4, 7]
    assert ap_library().startswith("faster-coco-eval ")
    assert ap_library(federated=True).startswith("pycocotools ")
    faster = ap.precision_table(images, classes)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    np.testing.assert_allclose(faster, ap.precision_table(images, classes), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- LVIS

WORDS = Vocabulary.from_names(["cup", "bell", "kite", "harp"], name="words")


@pytest.fixture
def federated(tmp_path):
    """A federated dataset of the records given; its classes are rare, common, frequent, frequent."""
    names = []

    def register(*records):
        letters = enumerate("rcff")
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps({"categories": [{"id": k, "frequency": letter} for k, letter in letters]}))
        name = f"federated_{tmp_path.name}_{len(names)}"
        names.append(name)
        DatasetCatalog.register(name, lambda: list(records))
        MetadataCatalog.get(name).set(vocabulary=WORDS, tasks=("instance",), federated=True, json_file=str(path))
        return InstanceEvaluator(name, train_vocabulary=Vocabulary.from_names(["bell"], name="train"))

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def record(image_id, present, *, absent=(), unjudged=()):
    """An image with a square of class k at place `spot` for each (k, spot)."""
    annotations = [annotation(square(spot), k, iscrowd=0) for k, spot in present]
    return {
        "file_name": f"{image_id}.jpg",
        "image_id": image_id,
        "height": SIZE[0],
        "width": SIZE[1],
        "annotations": annotations,
        "neg_category_ids": list(absent),
        "not_exhaustive_category_ids": list(unjudged),
    }


def output(*guesses):
    """An output with a mask, a score and a class for each guess (k, spot, score)."""
    instances = Instances(SIZE)
    masks = np.array([square(spot) for _, spot, _ in guesses], dtype=bool).reshape(-1, *SIZE)
    instances.pred_masks = torch.from_numpy(masks)
    instances.scores = torch.tensor([score for *_, score in guesses], dtype=torch.float32)
    instances.pred_classes = torch.tensor([k for k, *_ in guesses], dtype=torch.int64)
    return {"instances": instances}


def evaluate(evaluator, *outputs):
    evaluator.process([{"image_id": i} for i in range(1, len(outputs) + 1)], outputs)
    return evaluator.evaluate()["segm"]


def test_classes_the_annotation_does_not_speak_of_are_not_judged(federated):
    evaluator = federated(record(1, [(0, 0)], absent=[1]), record(2, [(1, 3)]))
    # In image 1 a better scored guess at "kite" is dropped: nothing is known of kites there.
    result = evaluate(evaluator, output((0, 0, 0.5), (2, 1, 0.9)), output((1, 3, 0.5)))
    assert result["AP"] == pytest.approx(100)
    # "bell" is known to be absent from image 1: a better scored guess there halves its precision.
    evaluator.reset()
    result = evaluate(evaluator, output((0, 0, 0.5), (1, 1, 0.9)), output((1, 3, 0.5)))
    assert (result["APr"], result["APc"]) == pytest.approx((100, 50))
    assert np.isnan(result["APf"]) and result["AP_seen"] == pytest.approx(50)
    assert list(result)[-3:] == ["APr", "APc", "APf"]


def test_misses_of_a_class_that_is_not_annotated_in_full_are_ignored(federated):
    guesses = (0, 0, 0.5), (0, 5, 0.9)
    whole, part = record(1, [(0, 0)]), record(1, [(0, 0)], unjudged=[0])
    assert evaluate(federated(whole), output(*guesses))["AP"] == pytest.approx(50)
    assert evaluate(federated(part), output(*guesses))["AP"] == pytest.approx(100)


def test_300_predictions_of_all_classes_count(federated):
    # 300 better scored guesses of a class that is dropped only after the cut push the right one out.
    evaluator = federated(record(1, [(0, 0)]))
    crowd = [(3, 1, 0.9)] * 300
    assert evaluate(evaluator, output((0, 0, 0.5), *crowd))["AP"] == 0.0
    evaluator.reset()
    assert evaluate(evaluator, output((0, 0, 0.5), *crowd[:299]))["AP"] == pytest.approx(100)
    # 150 false guesses of the class itself: COCO would not look beyond the hundredth.
    evaluator.reset()
    assert 0 < evaluate(evaluator, output((0, 0, 0.5), *[(0, 1, 0.9)] * 150))["AP"] < 1


def test_memory_is_of_the_runs_of_judged_predictions(federated):
    evaluator = federated(record(1, [(0, 0)]))
    evaluator.process([{"image_id": 1}], [output(*[(k, spot, 0.5) for k in (0, 3) for spot in range(24)])])
    kept = evaluator._results[1]
    assert len(kept.predictions) == 24 and len(pickle.dumps(kept)) < 24 * 200


def test_a_federated_dataset_must_say_what_it_knows(federated):
    incomplete = record(1, [(0, 0)])
    del incomplete["neg_category_ids"]
    with pytest.raises(ValueError, match=r"image 1 of the federated dataset .* lacks \['neg_category_ids'\]"):
        evaluate(federated(incomplete), output((0, 0, 0.5)))


@pytest.mark.parametrize("content", [{}, {"categories": None}, {"categories": [3]}, {"categories": [{"id": [1]}]}])
def test_frequencies_of_another_form_are_named(federated, content):
    evaluator = federated(record(1, [(0, 0)]))
    path = evaluator.ground_truth.metadata.json_file
    with open(path, "w") as file:
        json.dump(content, file)
    with pytest.raises(ValueError, match=r"lvis.json: categories"):
        _ = evaluator.ground_truth.frequencies
