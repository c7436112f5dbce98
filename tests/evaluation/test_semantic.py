import numpy as np
import pytest
import torch
from PIL import Image

from possam.d2 import BACKEND
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.evaluation.semantic import SemanticEvaluator, semantic_metrics
from possam.vocabulary import Vocabulary


def class_map(ids, infos):
    """−1 where there is no segment."""
    result = np.full(ids.shape, -1)
    for info in infos:
        result[ids == info["id"]] = info["category_id"]
    return result


def evaluate(world, maps, **keywords):
    evaluator = SemanticEvaluator(world.name, **keywords)
    evaluator.process(world.inputs(), [{"semantic_seg": torch.from_numpy(m)} for m in maps])
    return evaluator.evaluate()["sem_seg"]


def test_equals_the_definition(world):
    truths = np.stack([class_map(*truth) for truth in world.truths.values()])
    maps = np.stack([class_map(*prediction) for prediction in world.predictions.values()])
    result = evaluate(world, maps, train_vocabulary=world.train_vocabulary)
    known = truths >= 0
    iou, accuracy, frequency = {}, {}, {}
    for k in range(5):
        truth, predicted = truths == k, (maps == k) & known
        iou[k] = (truth & predicted).sum() / (truth | predicted).sum()
        accuracy[k] = (truth & predicted).sum() / truth.sum()
        frequency[k] = truth.sum() / known.sum()
    # Class 5 is predicted and never annotated; 6 and 7 are neither: all three are left out.
    assert (maps == 5).any() and set(np.unique(truths[known])) == set(range(5))
    expected = {
        "mIoU": np.mean(list(iou.values())),
        "fwIoU": sum(iou[k] * frequency[k] for k in range(5)),
        "mACC": np.mean(list(accuracy.values())),
        "pACC": (truths == maps)[known].mean(),
        "mIoU_seen": np.mean([iou[0], iou[3]]),
        "mIoU_unseen": np.mean([iou[1], iou[2], iou[4]]),
    }
    assert result == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert 0 < result["mIoU"] < 100


def test_truth_scores_100(world):
    maps = [np.maximum(class_map(*truth), 0) for truth in world.truths.values()]
    assert set(evaluate(world, maps).values()) == {100.0}


def test_nan_policy():
    groups = {
        "": np.array([True] * 3),
        "_seen": np.array([True, False, False]),
        "_unseen": np.array([False, True, True]),
    }
    result = semantic_metrics(np.zeros((3, 4), np.int64), groups)
    assert np.isnan(list(result.values())).all()
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    result = semantic_metrics(confusion, groups)
    assert (result["mIoU"], result["mIoU_seen"], result["pACC"]) == (75.0, 75.0, 75.0)
    assert np.isnan(result["mIoU_unseen"])


def test_counts_do_not_overflow():
    groups = {"": np.array([True, True])}
    confusion = np.array([[2**40, 0, 0], [2**40, 0, 0]])
    assert semantic_metrics(confusion, groups)["mIoU"] == 25.0


def test_errors(world):
    evaluator = SemanticEvaluator(world.name)
    for bad in (np.full((40, 56), 8), np.zeros((40, 56), np.float32)):
        with pytest.raises(ValueError, match="image 101 must hold integer classes below 8"):
            evaluator.process(world.inputs()[:1], [{"semantic_seg": torch.from_numpy(bad)}])
    with pytest.raises(ValueError, match="semantic_seg of image 101 has height×width 56×40"):
        evaluator.process(world.inputs()[:1], [{"semantic_seg": torch.zeros(56, 40, dtype=torch.int64)}])


@pytest.fixture
def label_maps(tmp_path):
    """Registers label maps as a semantic dataset; gives its name."""
    names = []

    def register(maps, classes, *, ignore_label):
        name = f"labels_{tmp_path.name}_{len(names)}"
        names.append(name)
        records = []
        for number, labels in enumerate(maps):
            path = tmp_path / f"{name}_{number}.png"
            Image.fromarray(labels.astype(np.uint8 if ignore_label < 256 else np.uint16)).save(path)
            size = {"height": labels.shape[0], "width": labels.shape[1]}
            records.append({"file_name": f"{number}.jpg", "image_id": number, "sem_seg_file_name": str(path), **size})
        vocabulary = Vocabulary.from_names([f"class {k}" for k in range(classes)], isthing=False, name="labels")
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(
            vocabulary=vocabulary, tasks=("semantic",), ignore_label=ignore_label, stuff_classes=list(vocabulary.names)
        )
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def score(name, predictions, **keywords):
    evaluator = SemanticEvaluator(name, **keywords)
    for number, prediction in enumerate(predictions):
        evaluator.process([{"image_id": number}], [{"semantic_seg": torch.from_numpy(prediction)}])
    return evaluator.evaluate()["sem_seg"]


def test_golden(label_maps):
    """Two images of 2×4 pixels, counted by hand; 4 classes, of which 3 is predicted only and 2 is missed whole."""
    truths = [
        np.array([[0, 0, 0, 1], [1, 1, 255, 255]]),
        np.array([[2, 2, 0, 0], [255, 1, 1, 1]]),
    ]
    predictions = [
        np.array([[0, 0, 1, 1], [1, 0, 2, 3]]),  # on the unlabeled pixels 2 and 3: not counted
        np.array([[0, 3, 0, 0], [2, 1, 1, -1]]),
    ]
    # class 0: 5 pixels, 4 found, predicted 6 times: 4 / (5 + 6 − 4) = 4/7
    # class 1: 6 pixels, 4 found, predicted 5 times: 4 / (6 + 5 − 4) = 4/7
    # class 2: 2 pixels, none found: 0; class 3: not annotated, left out
    name = label_maps(truths, 4, ignore_label=255)
    result = score(name, predictions, train_vocabulary=Vocabulary.from_names(["class 0", "class 2"], name="train"))
    assert result == pytest.approx(
        {
            "mIoU": 100 * (4 / 7 + 4 / 7 + 0) / 3,
            "fwIoU": 100 * (5 * 4 / 7 + 6 * 4 / 7) / 13,
            "mACC": 100 * (4 / 5 + 4 / 6 + 0) / 3,
            "pACC": 100 * 8 / 13,
            "mIoU_seen": 100 * (4 / 7 + 0) / 2,
            "mIoU_unseen": 100 * 4 / 7,
        }
    )
    # Only classes that are nowhere annotated: no number.
    result = score(name, predictions, train_vocabulary=Vocabulary.from_names(["class 3"], name="train"))
    assert np.isnan(result["mIoU_seen"]) and not np.isnan(result["mIoU_unseen"])


@pytest.mark.skipif(BACKEND != "detectron2", reason="Detectron2 is not installed")
@pytest.mark.parametrize(("classes", "ignore_label"), [(19, 255), (150, 255), (847, 65535)])
def test_equals_detectron2(label_maps, classes, ignore_label):
    from detectron2.evaluation import SemSegEvaluator

    rng = np.random.default_rng(classes)
    known = rng.choice(classes, max(4, classes // 2), replace=False)  # the others are never annotated
    truths, predictions = [], []
    for _ in range(3):
        truth = rng.choice(known, (30, 40))
        predictions.append(np.where(rng.random((30, 40)) < 0.6, truth, rng.integers(0, classes, (30, 40))))
        truth[rng.random((30, 40)) < 0.1] = ignore_label
        truths.append(truth)
    name = label_maps(truths, classes, ignore_label=ignore_label)
    theirs = SemSegEvaluator(name, distributed=False)
    theirs.reset()
    for number, prediction in enumerate(predictions):
        scores = torch.nn.functional.one_hot(torch.from_numpy(prediction), classes).permute(2, 0, 1)
        theirs.process([{"file_name": f"{number}.jpg"}], [{"sem_seg": scores}])
    expected = theirs.evaluate()["sem_seg"]
    result = score(name, predictions)
    for metric in ("mIoU", "fwIoU", "mACC", "pACC"):
        assert result[metric] == pytest.approx(expected[metric], rel=1e-12)
    assert 10 < result["mIoU"] < 90
