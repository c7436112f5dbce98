import numpy as np
import pytest
import torch

from possam.evaluation import PanopticSemanticEvaluator, SemanticEvaluator


def evaluate(world, outputs, **keywords):
    evaluator = PanopticSemanticEvaluator(world.name, **keywords)
    evaluator.process(world.inputs(), outputs)
    return evaluator.evaluate()["panoptic_sem_seg"]


def pixels(maps):
    """Every pixel's class in all images, −1 for none: pixel by pixel."""
    found = []
    for ids, infos in maps.values():
        classes = {info["id"]: info["category_id"] for info in infos}
        found.extend(classes.get(value, -1) for value in ids.ravel().tolist())
    return np.array(found)


def test_equals_the_definition(world):
    """Every annotated pixel counts: one of no segment is a miss of its class, and nobody's false positive."""
    truth, predicted = pixels(world.truths), pixels(world.predictions)
    known = truth >= 0
    assert (predicted[known] < 0).mean() > 0.01 and (truth[predicted >= 0] < 0).any()
    iou = {}
    for k in np.unique(truth[known]).tolist():
        both = ((truth == k) & (predicted == k)).sum()
        iou[k] = both / (((truth == k) | (predicted == k)) & known).sum()
    result = evaluate(world, world.panoptic_outputs(), train_vocabulary=world.train_vocabulary)
    assert result["mIoU"] == pytest.approx(100 * np.mean(list(iou.values())))
    assert result["mIoU_seen"] == pytest.approx(50 * (iou[0] + iou[3]))
    assert result["mIoU_unseen"] == pytest.approx(100 / 3 * (iou[1] + iou[2] + iou[4]))
    assert result["pACC"] == pytest.approx(100 * (truth == predicted)[known].mean())
    assert 0 < result["mIoU"] < 100


def test_is_the_semantic_score_of_the_same_label_map(world):
    semantic = SemanticEvaluator(world.name)
    maps = np.split(pixels(world.predictions), len(world.predictions))
    semantic.process(world.inputs(), [{"semantic_seg": torch.from_numpy(m.reshape(40, 56))} for m in maps])
    assert evaluate(world, world.panoptic_outputs()) == semantic.evaluate()["sem_seg"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"semantic_seg": torch.zeros(40, 56)}, "needs 'panoptic_seg' in the model's output of image 101"),
        ({"panoptic_seg": (torch.zeros(56, 40), [])}, "panoptic_seg of image 101 has height×width 56×40"),
        ({"panoptic_seg": (torch.ones(40, 56).int(), [])}, "panoptic_seg of image 101: segment ids .1. are in the PNG"),
        (
            {"panoptic_seg": (torch.ones(40, 56).int(), [{"id": 1, "category_id": 8}])},
            r"has the classes \[8\], but dataset .* has 8",
        ),
    ],
)
def test_errors(world, output, message):
    with pytest.raises(ValueError, match=message):
        PanopticSemanticEvaluator(world.name).process(world.inputs()[:1], [output])
