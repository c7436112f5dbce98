"""Checkpoints fit the model exactly, or are refused."""

import pytest
import torch
from torch import nn

from possam.engine import Checkpointer


def save(path, state):
    torch.save({"model": state}, path)
    return str(path)


def test_loads_what_fits(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    Checkpointer(model).load(save(tmp_path / "fits.pth", other.state_dict()))
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \(2, 4\).*\(2, 3\)"),
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra is not part"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        Checkpointer(nn.Linear(3, 2)).load(save(tmp_path / "other.pth", state))


def test_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        Checkpointer(nn.Linear(3, 2)).load(str(tmp_path / "nothing.pth"))


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "text.pth"
    path.write_text("no weights at all")
    with pytest.raises(ValueError, match="text.pth is not a checkpoint"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))
