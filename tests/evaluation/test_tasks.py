import pytest

from possam.evaluation import Metric, PanopticEvaluator, Task, find_task, outputs_of, possible_tasks, register_task
from possam.evaluation.tasks import _TASKS


def task(**changes):
    metric = Metric(key="X", heading="X", text="something", groups=("", "_unseen"), places=2)
    usual = {"key": "other", "needs": "instance", "result": "other", "outputs": ("instance", "panoptic")}
    return Task(**(usual | {"evaluator": PanopticEvaluator, "metrics": (metric,)} | changes))


def test_one_registration_makes_a_task_known(monkeypatch):
    monkeypatch.setattr("possam.evaluation.tasks._TASKS", dict(_TASKS))
    register_task(task())
    assert find_task("other") == task()
    assert possible_tasks(["instance"]) == ("instance", "prompted", "other")
    assert outputs_of(["panoptic", "other", "mask_quality"]) == ("panoptic", "instance", "mask_quality")
    assert [(c.heading, c.key, c.places) for c in task().metrics[0].columns] == [
        ("X", "X", 2),
        ("X unseen", "X_unseen", 2),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "panoptic"}, "registered as 'panoptic' already"),
        ({"result": "sem_seg"}, "two tasks write 'sem_seg'"),
        ({"needs": "depth"}, "unknown annotation 'depth'"),
        ({"outputs": ("depth",)}, "unknown outputs"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(AssertionError, match=message):
        register_task(task(**changes))
    assert "other" not in _TASKS


def test_an_unknown_task_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"task 'mask_qualty'; the tasks are \['panoptic', .*mean 'mask_quality'"):
        find_task("mask_qualty")
