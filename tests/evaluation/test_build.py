import pytest
import torch

from possam.d2.structures import Instances
from possam.evaluation import build_evaluators, registered_tasks


def test_all_tasks_in_one_run(world, tmp_path):
    tasks = [task for task in registered_tasks() if not task.prompts]  # those have inputs of their own
    evaluators = build_evaluators(
        world.name,
        tasks=[task.key for task in tasks],
        train_vocabulary=world.train_vocabulary,
        output_dir=tmp_path / "out",
    )
    evaluators.reset()
    outputs = world.panoptic_outputs()
    for output in outputs:
        nothing = Instances((40, 56))
        nothing.pred_masks = torch.zeros(0, 40, 56, dtype=torch.bool)
        nothing.scores, nothing.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
        quality = {"masks": torch.zeros(2, 40, 56, dtype=torch.bool), "iou": torch.tensor([0.25, 0.75])}
        output |= {"semantic_seg": torch.zeros(40, 56, dtype=torch.int64), "instances": nothing}
        output["mask_quality"] = quality
    evaluators.process(world.inputs(), outputs)
    results = evaluators.evaluate()
    assert list(results) == [task.result for task in tasks]
    for task in tasks:
        assert {metric.key for metric in task.metrics} <= set(results[task.result])
    assert results["panoptic_seg"]["PQ_seen"] > 0 and results["iou_head"]["mae_matched"] == 0.5
    assert {"mIoU_unseen"} < set(results["sem_seg"]) and {"AP_unseen"} < set(results["segm"])
    assert (tmp_path / "out" / "panoptic.json").is_file()


def test_annotations_are_read_once(world, monkeypatch):
    evaluators = build_evaluators(world.name, tasks=["panoptic", "semantic"])._evaluators
    assert evaluators[0].ground_truth is evaluators[1].ground_truth
    assert evaluators[0].ground_truth.index(101) is evaluators[1].ground_truth.index(101)


def test_errors(world):
    tasks = ["panoptic", "semantic", "instance", "mask_quality", "panoptic_semantic", "prompted"]
    assert [task.key for task in registered_tasks()] == tasks
    with pytest.raises(ValueError, match="unknown evaluation task 'semantc'.*Did you mean 'semantic'"):
        build_evaluators(world.name, tasks=["panoptic", "semantc"])
    with pytest.raises(ValueError, match="no evaluation task"):
        build_evaluators(world.name, tasks=[])
