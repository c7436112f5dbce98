"""The optimizer's groups."""

import pytest
import torch
from torch import nn

from possam.classifiers import CosineClassifier
from possam.engine import load_config
from possam.engine.optimizer import build_optimizer, present_settings


def config(*overrides):
    return load_config("configs/mini/possam.yaml", overrides)


def test_norms_and_embeddings_are_not_decayed_and_frozen_parameters_are_absent():
    frozen = nn.Linear(2, 1).requires_grad_(False)
    model = nn.Sequential(nn.Embedding(4, 3), nn.LayerNorm(3), CosineClassifier(embed_dim=3), nn.Linear(3, 2), frozen)
    groups = {group["weight_decay"]: len(group["params"]) for group in build_optimizer(config(), model).param_groups}
    assert groups == {0.0: 5, 0.05: 2}


def settings_of(optimizer):
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def test_a_saved_state_gets_the_present_settings_and_stays_with_its_parameters():
    """Another weight decay of norms or of all the others changes the groups, and the parameters' order in them."""
    model = nn.Sequential(nn.Embedding(3, 3), nn.LayerNorm(3), nn.Linear(3, 3), nn.LayerNorm(3))
    before = config("SOLVER.WEIGHT_DECAY", "0.5", "SOLVER.OPTIMIZER_EPS", "1e-6")
    first = build_optimizer(before, model)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    first.step()
    expected = {parameter: first.state[parameter]["exp_avg"].clone() for parameter in model.parameters()}
    state = first.state_dict()
    for settings in (["SOLVER.WEIGHT_DECAY", "0.0"], ["SOLVER.WEIGHT_DECAY_NORM", "0.2"], []):
        now = config("SOLVER.BASE_LR", "0.25", *settings)
        second = build_optimizer(now, model)
        groups = settings_of(second)
        second.load_state_dict(present_settings(second, state, model=model, saved=before))
        assert settings_of(second) == groups
        assert all(group["lr"] == 0.25 and group["eps"] == 1e-8 for group in groups)
        for parameter, average in expected.items():
            assert torch.equal(second.state[parameter]["exp_avg"], average) and second.state[parameter]["step"] == 1
    other = config("SOLVER.WEIGHT_DECAY", "0.0")
    with pytest.raises(ValueError, match=r"groups of \[5, 2\] parameters, but SOLVER.WEIGHT_DECAY.* groups of \[7\]"):
        present_settings(first, state, model=model, saved=other)
