"""Checkpoints of the built-in runtime."""

import pytest
import torch
from torch import nn

from possam.d2._runtime.checkpoint import DetectionCheckpointer


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("pixel_mean", torch.zeros(3))


def test_what_is_saved_comes_back_with_its_companions(tmp_path):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_3", iteration=3)
    other = Model()
    later = torch.optim.SGD(other.parameters(), lr=9)
    checkpointer = DetectionCheckpointer(other, str(tmp_path), optimizer=later)
    assert checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("", resume=True) == {"iteration": 3}
    assert torch.equal(other.layer.weight, model.layer.weight) and later.param_groups[0]["lr"] == 0.25


def test_only_the_model_is_taken_where_a_run_does_not_resume(tmp_path):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("start")
    optimizer.param_groups[0]["lr"] = 9
    checkpointer = DetectionCheckpointer(model, str(tmp_path / "new"), optimizer=optimizer)
    checkpointer.resume_or_load(str(tmp_path / "start.pth"), resume=True)
    assert optimizer.param_groups[0]["lr"] == 9


def test_a_bare_state_dict_loads_and_old_pixel_statistics_are_not_missed(tmp_path):
    model = Model()
    state = {key: torch.ones_like(value) for key, value in model.state_dict().items() if key != "pixel_mean"}
    torch.save(state, tmp_path / "bare.pth")
    checkpointer = DetectionCheckpointer(model)
    loaded = checkpointer._load_file(str(tmp_path / "bare.pth"))
    assert checkpointer._load_model(loaded).missing_keys == []
    assert (model.layer.weight == 1).all()


@pytest.mark.parametrize("path", ["model.pkl", "model.pyth", "model.pth?matching_heuristics=True"])
def test_weights_of_other_libraries_need_detectron2(path):
    with pytest.raises(ValueError, match="Detectron2"):
        DetectionCheckpointer(Model()).load(path)
