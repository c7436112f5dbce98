"""The optimizer's groups."""

import copy

import pytest
import torch
from torch import nn

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.engine import load_config
from possam.engine.optimizer import build_optimizer, present_settings


def config(*overrides):
    return load_config("configs/mini/possam.yaml", overrides)


def test_norms_and_embeddings_are_not_decayed_and_frozen_parameters_are_absent():
    frozen = nn.Linear(2, 1).requires_grad_(False)
    model = nn.Sequential(nn.Embedding(4, 3), nn.LayerNorm(3), CosineClassifier(embed_dim=3), nn.Linear(3, 2), frozen)
    groups = {group["weight_decay"]: len(group["params"]) for group in build_optimizer(config(), model).param_groups}
    assert groups == {0.0: 5, 0.05: 2}


def test_the_groups_of_a_model_are_those_of_the_recipe_in_its_order(mini_config, mini_model):
    """A trainer's saved state goes by the order of groups and of the parameters in them."""
    embeddings = (nn.Embedding, LocalDiscriminativePooling, CosineClassifier)
    norms = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
    solver, expected, seen = mini_config.SOLVER, {}, set()
    for module in mini_model.modules():
        kind = "_NORM" if isinstance(module, norms) else "_EMBED" if isinstance(module, embeddings) else ""
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                expected.setdefault(solver[f"WEIGHT_DECAY{kind}"], []).append(parameter)
    optimizer = build_optimizer(mini_config, mini_model)
    assert [group["weight_decay"] for group in optimizer.param_groups] == list(expected)
    assert {group["lr"] for group in optimizer.param_groups} == {solver.BASE_LR}
    for group, parameters in zip(optimizer.param_groups, expected.values(), strict=True):
        assert list(map(id, group["params"])) == list(map(id, parameters))


class Backbone(nn.Module):
    """A trained backbone with a position table, whose head learns slower still."""

    lr_factor = 0.1
    embedding_parameters = ("table",)

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2))
        self.scale = nn.Parameter(torch.zeros(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)
        self.head.lr_factor = 0.5


def test_modules_declare_embeddings_and_learning_rate_factors():
    model = nn.Sequential(nn.Linear(6, 7), Backbone(), nn.Linear(8, 9))
    cfg = config("SOLVER.BASE_LR", "0.2", "SOLVER.WEIGHT_DECAY_EMBED", "0.01", "SOLVER.WEIGHT_DECAY_NORM", "0.02")
    groups = build_optimizer(cfg, model).param_groups
    found = [(group["weight_decay"], round(group["lr"], 9), [len(p) for p in group["params"]]) for group in groups]
    decay = cfg.SOLVER.WEIGHT_DECAY
    assert found == [
        (decay, 0.2, [7, 7, 9, 9]),
        (0.01, 0.02, [2]),
        (decay, 0.02, [3]),
        (0.02, 0.02, [4, 4]),
        (decay, 0.01, [5, 5]),
    ]


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


def test_a_damaged_state_is_refused_with_the_parameter():
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(config(), model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state_dict()

    def load(name=None, value=None, **changed):
        damaged = copy.deepcopy(state)
        if name:
            damaged["state"][1][name] = value
        present_settings(optimizer, {**damaged, **changed}, model=model, saved=config())

    load()
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"NaN or infinite: exp_avg_sq of bias \(1 of 2 values\).*earlier"):
            load("exp_avg_sq", torch.tensor([0.5, value]))
    with pytest.raises(ValueError, match=r"exp_avg of bias in shape \(1,\), but the parameter's is \(2,\).*earlier"):
        load("exp_avg", torch.zeros(1))
    with pytest.raises(ValueError, match="has no state and no param_groups.*MODEL.WEIGHTS"):
        present_settings(optimizer, {}, model=model, saved=config())
