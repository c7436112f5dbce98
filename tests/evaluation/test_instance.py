import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.structures import Instances
from possam.data.instances import load_instances
from possam.evaluation.instance import InstanceEvaluator
from possam.vocabulary import Vocabulary

RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def instances(masks, scores, classes, size=(40, 56)):
    result = Instances(size)
    result.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return {"instances": result}


def predicted(world):
    outputs = []
    for ids, infos in world.predictions.values():
        masks = [ids == info["id"] for info in infos]
        outputs.append(instances(masks, [i["score"] for i in infos], [i["category_id"] for i in infos]))
    return outputs


def evaluate(world, outputs, **keywords):
    evaluator = InstanceEvaluator(world.name, **keywords)
    evaluator.process(world.inputs(), outputs)
    return evaluator.evaluate()["segm"]


def slow_ap(world, category, threshold):
    """Average precision by COCO's rules: greedy by score, crowds absorb any number, 101 recalls."""
    rows, positives = [], 0
    for image_id, (ids, infos) in world.truths.items():
        truths = [(ids == i["id"], bool(i["iscrowd"])) for i in infos if i["category_id"] == category]
        truths.sort(key=lambda t: t[1])
        positives += sum(not crowd for _, crowd in truths)
        pixels, segments = world.predictions[image_id]
        guesses = [(s["score"], pixels == s["id"]) for s in segments if s["category_id"] == category]
        used = set()
        for score, mask in sorted(guesses, key=lambda g: -g[0]):
            best, chosen = threshold, None
            for g, (truth, crowd) in enumerate(truths):
                if g in used and not crowd:
                    continue
                if chosen is not None and not truths[chosen][1] and crowd:
                    break
                union = mask.sum() if crowd else (mask | truth).sum()
                iou = (mask & truth).sum() / union
                if iou >= best:
                    best, chosen = iou, g
            if chosen is not None:
                used.add(chosen)
            if chosen is None or not truths[chosen][1]:
                rows.append((score, chosen is not None))
    if not positives:
        return np.nan
    hits = np.array([hit for _, hit in sorted(rows, key=lambda r: -r[0])], dtype=float)
    recall, precision = hits.cumsum() / positives, hits.cumsum() / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS)
    return np.mean([precision[p] if p < len(precision) else 0.0 for p in places])


def test_equals_a_plain_average_precision(world):
    result = evaluate(world, predicted(world), train_vocabulary=world.train_vocabulary)
    table = np.array([[slow_ap(world, k, t) for t in THRESHOLDS] for k in (0, 2, 4)])  # 6 is never annotated
    assert np.isfinite(table).all() and 0 < table.mean() < 1
    assert result["AP"] == pytest.approx(100 * table.mean())
    assert result["AP50"] == pytest.approx(100 * table[:, 0].mean())
    assert result["AP75"] == pytest.approx(100 * table[:, 5].mean())
    assert result["AP_seen"] == pytest.approx(100 * table[0].mean())
    assert result["AP_unseen"] == pytest.approx(100 * table[1:].mean())
    assert np.isnan(result["APl"])  # nothing here is over 96² pixels


def test_truth_scores_100_and_stuff_is_ignored(world):
    outputs = []
    for ids, infos in world.truths.values():
        kept = [info for info in infos if not info["iscrowd"]]
        outputs.append(
            instances([ids == i["id"] for i in kept], [0.5] * len(kept), [i["category_id"] for i in kept])
        )
    result = evaluate(world, outputs)
    assert (result["AP"], result["AP50"], result["AP75"]) == pytest.approx((100, 100, 100))
    stuff = instances([np.ones((40, 56))], [1.0], [1])
    outputs[0]["instances"] = Instances.cat([outputs[0]["instances"], stuff["instances"]])
    assert evaluate(world, outputs) == pytest.approx(result, nan_ok=True)


def test_no_predictions_and_no_images(world):
    result = evaluate(world, [instances([], [], []) for _ in world.truths])
    assert result["AP"] == 0.0
    assert all(np.isnan(list(InstanceEvaluator(world.name).evaluate()["segm"].values())))


def test_errors(world):
    evaluator = InstanceEvaluator(world.name)
    with pytest.raises(ValueError, match="instances of image 101 have classes from 9 to 9"):
        evaluator.process(world.inputs()[:1], [instances([np.ones((40, 56))], [1.0], [9])])
    with pytest.raises(ValueError, match="pred_masks of image 101 has height×width 4×4"):
        evaluator.process(world.inputs()[:1], [instances([np.ones((4, 4))], [1.0], [0], size=(4, 4))])


def coco_file(rng, path):
    """A file in the COCO instance format: overlapping polygons of several parts, crowds as runs, areas of its own."""
    images = [{"id": 7 * i, "file_name": f"{i}.jpg", "height": 40, "width": 56} for i in range(1, 13)]
    annotations = []
    for image in images[:-1]:
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 6, 6), (30, 20, 26, 20)))
            parts = [[x, y, x + w, y, x + w, y + h], [x, y + 1, x + w / 2, y + h + 0.5, x, y + h]]
            runs = mask_coder.merge(mask_coder.frPyObjects(parts, 40, 56))
            crowd = rng.random() < 0.2
            column_wise = mask_coder.decode(runs).ravel(order="F").astype(np.int8)
            edges = np.flatnonzero(np.diff(column_wise, prepend=0))
            counts = np.diff(np.concatenate([[0], edges, [column_wise.size]])).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice([3, 5, 90])),
                    "iscrowd": int(crowd),
                    "bbox": [x, y, w, h],
                    "area": min(float(mask_coder.area(runs)) * float(rng.choice([1, 40])), 40.0 * 56),
                    "segmentation": {"size": [40, 56], "counts": counts} if crowd else parts,
                }
            )
    categories = [{"id": k, "name": f"class {k}"} for k in (3, 5, 77, 90)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return categories


def guess(rng, coco, image_id):
    """Masks around the annotated ones, with scores that tie, as runs in COCO's format of results."""
    results = []
    for annotation in coco.imgToAnns[image_id]:
        for _ in range(rng.integers(0, 3)):
            mask = np.roll(coco.annToMask(annotation), rng.integers(-2, 3, 2), (0, 1))
            category = annotation["category_id"] if rng.random() < 0.8 else int(rng.choice([3, 5, 77, 90]))
            score = float(np.float32(rng.integers(1, 9) / 8))
            runs = mask_coder.encode(np.asfortranarray(mask))
            results.append({"image_id": image_id, "category_id": category, "score": score, "segmentation": runs})
    return results


def test_equals_pycocotools_on_a_file_of_instances(tmp_path):
    rng = np.random.default_rng(3)
    categories = coco_file(rng, tmp_path / "instances.json")
    vocabulary = Vocabulary.from_coco_categories(categories, "four")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "instances.json")
        results = [result for image_id in coco.imgs for result in guess(rng, coco, image_id)]
        evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in results]), "segm")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    places = {"image_root": tmp_path, "instances_json": tmp_path / "instances.json", "need_images": False}
    name = f"instances_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: load_instances(**places, vocabulary=vocabulary))
    MetadataCatalog.get(name).set(vocabulary=vocabulary, tasks=("instance",))
    evaluator = InstanceEvaluator(name)
    for image_id in coco.imgs:
        own = [result for result in results if result["image_id"] == image_id]
        masks = [mask_coder.decode(result["segmentation"]) for result in own]
        classes = [vocabulary.contiguous_id[result["category_id"]] for result in own]
        evaluator.process([{"image_id": image_id}], [instances(masks, [r["score"] for r in own], classes)])
    result = evaluator.evaluate()["segm"]
    DatasetCatalog.remove(name), MetadataCatalog.remove(name)
    for metric, expected in zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), evaluation.stats, strict=False):
        assert result[metric] == pytest.approx(100 * expected if expected >= 0 else np.nan, nan_ok=True), metric
    assert 5 < result["AP"] < 90 and len(coco.anns) > 20 and result["APm"] > 0
    assert any(annotation["iscrowd"] for annotation in coco.anns.values())
