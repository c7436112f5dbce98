"""The optimizer's groups and clipping."""

import torch
from torch import nn

from possam.classifiers import CosineClassifier
from possam.engine import load_config
from possam.engine.optimizer import build_optimizer


def config(*overrides):
    return load_config("configs/mini/possam.yaml", overrides)


def test_norms_and_embeddings_are_not_decayed_and_frozen_parameters_are_absent():
    frozen = nn.Linear(2, 1).requires_grad_(False)
    model = nn.Sequential(nn.Embedding(4, 3), nn.LayerNorm(3), CosineClassifier(embed_dim=3), nn.Linear(3, 2), frozen)
    groups = {group["weight_decay"]: len(group["params"]) for group in build_optimizer(config(), model).param_groups}
    assert groups == {0.0: 5, 0.05: 2}


def test_the_whole_models_gradient_is_clipped_together():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    optimizer = build_optimizer(config("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5"), model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-4, atol=0)
    # equal gradients stay equal: nothing is clipped by parameter
    assert model[0].weight.grad[0, 0] == model[1].weight.grad[0, 0]
