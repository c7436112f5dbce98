"""Prompted evaluation against plain loops."""

import json

import numpy as np
import pytest
import torch

from possam.d2.data import MetadataCatalog
from possam.d2.structures import Instances
from possam.d2.utils import comm
from possam.data.detections import Detections
from possam.evaluation import GroundTruth, InstanceEvaluator, PromptedEvaluator
from possam.evaluation.groups import class_groups

SUFFIXES = ("", "_seen", "_unseen", "_small", "_medium", "_large")


def truths(world):
    """(image id, class, area, mask) of every instance that is a thing and no crowd, in the annotation's order."""
    for image_id, (ids, infos) in world.truths.items():
        for info in infos:
            mask = ids == info["id"]
            if not info["iscrowd"] and world.vocabulary.isthing[info["category_id"]]:
                yield image_id, info["category_id"], int(mask.sum()), mask


def outputs(world, seed=3):
    """For every instance a mask that is moved, and a class that is right for two in three."""
    rng, found = np.random.default_rng(seed), {image_id: ([], []) for image_id in world.truths}
    for image_id, category, _, mask in truths(world):
        masks, classes = found[image_id]
        masks.append(np.roll(mask, rng.integers(0, 4, 2), axis=(0, 1)))
        classes.append([category if rng.random() < 0.66 else int(rng.integers(0, 8)), 0])
    made = []
    for masks, classes in found.values():
        given = {"masks": torch.from_numpy(np.array(masks)), "classes": torch.tensor(classes)}
        made.append({"prompted": given} if masks else {})  # nothing is asked of an image without instances
    return made


def evaluate(world, inputs, predicted, **options):
    evaluator = PromptedEvaluator(world.name, **options)
    evaluator.process(inputs, predicted)
    return evaluator.evaluate()


def plain(world, predicted):
    """The metrics by a loop over instances."""
    seen = world.vocabulary.seen(world.train_vocabulary)
    values = {suffix: ([], []) for suffix in SUFFIXES}
    rows = iter([(mask.numpy(), classes[0]) for output in predicted if output for mask, classes in
                 zip(output["prompted"]["masks"], output["prompted"]["classes"].tolist(), strict=True)])  # fmt: skip
    for _, category, area, mask in truths(world):
        found, named = next(rows)
        both = sum(bool(a and b) for a, b in zip(mask.flat, found.flat, strict=True))
        iou = both / (mask.sum() + found.sum() - both)
        size = "_small" if area < 1024 else "_medium" if area < 9216 else "_large"
        for suffix in ("", "_seen" if seen[category] else "_unseen", size):
            values[suffix][0].append(iou)
            values[suffix][1].append(named == category)
    assert next(rows, None) is None
    return {
        name + suffix: 100 * sum(numbers) / len(numbers) if numbers else float("nan")
        for suffix, both in values.items()
        for name, numbers in zip(("mIoU", "accuracy"), both, strict=True)
    }


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key] == pytest.approx(b[key], abs=1e-9, nan_ok=True), key


def test_equals_plain_loops(world):
    predicted = outputs(world)
    result = evaluate(world, world.inputs(), predicted, train_vocabulary=world.train_vocabulary)
    assert list(result) == ["prompted"]
    same(result["prompted"], plain(world, predicted))
    numbers = [value for key, value in result["prompted"].items() if not key.endswith(("medium", "large"))]
    assert len(set(numbers)) > 5 and all(5 < value < 95 for value in numbers)
    alone = evaluate(world, world.inputs(), predicted)["prompted"]
    assert not any("seen" in key for key in alone) and alone["mIoU"] == result["prompted"]["mIoU"]


def test_areas_are_those_that_the_annotation_states(world, monkeypatch):
    sizes = {1023: "_small", 1024: "_medium", 9215: "_medium", 9216: "_large"}
    predicted, by_size, read = outputs(world), {suffix: [] for suffix in sizes.values()}, GroundTruth.instances
    areas = [list(sizes)[number % 4] for number, _ in enumerate(truths(world))]
    found = [mask.numpy() for output in predicted if output for mask in output["prompted"]["masks"]]
    for area, mask, (*_, truth) in zip(areas, found, truths(world), strict=True):
        by_size[sizes[area]].append((mask & truth).sum() / (mask | truth).sum())
    left = iter(areas)

    def stated(self, image_id):
        return [one | ({} if one["iscrowd"] else {"area": next(left)}) for one in read(self, image_id)]

    monkeypatch.setattr(GroundTruth, "instances", stated)
    result = evaluate(world, world.inputs(), predicted)["prompted"]
    for suffix, values in by_size.items():
        assert values and result["mIoU" + suffix] == pytest.approx(100 * np.mean(values))


def test_a_split_divides_by_its_lists(world, monkeypatch):
    base = np.arange(8) < 3

    def groups(vocabulary, train, split):
        assert split == "a_split"
        return class_groups(vocabulary, train) | {"_base": base, "_novel": ~base}

    monkeypatch.setattr("possam.evaluation.per_image.class_groups", groups)
    vars(MetadataCatalog.get(world.name))["class_split"] = "a_split"
    predicted = outputs(world)
    result = evaluate(world, world.inputs(), predicted, train_vocabulary=world.train_vocabulary)["prompted"]
    assert "mIoU_seen" not in result
    rows = PromptedEvaluator(world.name)
    scored = np.concatenate([rows.score_image(sample["image_id"], {**output, "detections": None})
                             for sample, output in zip(world.inputs(), predicted, strict=True)])  # fmt: skip
    assert result["accuracy_base"] == pytest.approx(100 * scored[scored[:, 2] < 3, 1].mean())
    assert result["mIoU_novel"] == pytest.approx(100 * scored[scored[:, 2] >= 3, 0].mean())


def detections(world, seed=5):
    """Inputs with detections of some images, the outputs to their prompts, and both as plain instances."""
    rng, inputs, predicted, instances = np.random.default_rng(seed), [], [], []
    for sample, (ids, infos) in zip(world.inputs(), world.predictions.values(), strict=True):
        masks = torch.from_numpy(np.array([ids == info["id"] for info in infos]).reshape(-1, *ids.shape))
        scores = torch.tensor([info["score"] for info in infos])
        classes = torch.tensor([info["category_id"] for info in infos], dtype=torch.int64)
        named = torch.from_numpy(rng.integers(0, 8, (len(infos), 2)))
        boxes = torch.zeros(len(infos), 4)
        inputs.append(sample | {"detections": Detections(boxes=boxes, scores=scores, classes=classes)})
        predicted.append({"prompted": {"masks": masks, "classes": named}} if infos else {})
        one = Instances(ids.shape)
        one.pred_masks, one.scores, one.pred_classes = masks, scores, classes
        instances.append((one, named[:, 0]))
    return inputs, predicted, instances


def test_detections_have_the_average_precision_of_their_masks(world):
    inputs, predicted, instances = detections(world)
    options = {"train_vocabulary": world.train_vocabulary}

    def expected():
        evaluator = InstanceEvaluator(world.name, **options)
        evaluator.process(world.inputs(), [{"instances": one} for one, _ in instances])
        return evaluator.evaluate()["segm"]

    same(evaluate(world, inputs, predicted, **options)["prompted"], theirs := expected())
    for sample, (one, named) in zip(inputs, instances, strict=True):
        sample["detections"] = Detections(boxes=sample["detections"].boxes, scores=sample["detections"].scores)
        one.pred_classes = named
    same(evaluate(world, inputs, predicted, **options)["prompted"], ours := expected())
    assert theirs["AP"] > ours["AP"] and theirs["AP"] > 1


def test_outputs_that_are_not_those_of_the_prompts_are_refused(world):
    inputs, predicted = world.inputs(), outputs(world)
    with pytest.raises(ValueError, match="needs 'prompted' in the model's output"):
        evaluate(world, inputs, [{}] * len(inputs))
    cut = {"prompted": {name: values[1:] for name, values in predicted[0]["prompted"].items()}}
    count = len(predicted[0]["prompted"]["masks"])
    with pytest.raises(ValueError, match=f"has {count} prompts, but the model's output {count - 1} masks"):
        evaluate(world, inputs[:1], [cut])
    predicted[0]["prompted"]["masks"] = predicted[0]["prompted"]["masks"][:, 1:]
    with pytest.raises(ValueError, match=r"prompted\['masks'\] of image 101 has height×width 39×56"):
        evaluate(world, inputs[:1], predicted[:1])


def test_nothing_has_no_number(world):
    result = evaluate(world, [], [])["prompted"]
    assert all(np.isnan(value) for value in result.values()) and "mIoU" in result


def _worker(world, inputs, predicted, directory):
    rank = comm.get_rank()
    chosen = [i for i in range(len(inputs)) if i % 2 == rank or i == 1]  # one goes to both
    result = evaluate(world, [inputs[i] for i in chosen], [predicted[i] for i in chosen])
    (directory / f"{rank}.json").write_text(json.dumps(result))


@pytest.mark.parametrize("detector", [False, True])
def test_two_processes_give_what_one_gives(two_processes, world, tmp_path, detector):
    inputs, predicted = detections(world)[:2] if detector else (world.inputs(), outputs(world))
    expected = evaluate(world, inputs, predicted)
    two_processes(_worker, world, inputs, predicted, tmp_path)
    assert (tmp_path / "0.json").read_text() == json.dumps(expected)
    assert json.loads((tmp_path / "1.json").read_text()) is None
