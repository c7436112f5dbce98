"""The optimizer's groups."""

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
