import re

import pytest
import torch

from possam.classifiers import ENSEMBLE_REGISTRY, build_ensemble

NAMES = ["clip", "embedding_sum", "geometric", "ldp", "mase", "modulation", "uniform"]


def test_the_registry_holds_one_entry_an_ensemble():
    assert sorted(ENSEMBLE_REGISTRY) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_float32_probabilities(make_inputs, name):
    inputs = make_inputs()
    scores = build_ensemble(name)(inputs)
    assert scores.shape == (40, 7) and scores.dtype == torch.float32
    assert (scores >= 0).all() and (scores <= 1).all()
    not_void = 1 - inputs.query_logits.softmax(1)[:, -1]
    torch.testing.assert_close(scores.sum(1), not_void)


@pytest.mark.parametrize("name", NAMES)
def test_every_ensemble_weighs_the_predicted_iou_alike(make_inputs, name):
    inputs = make_inputs()
    plain, weighed = build_ensemble(name)(inputs), build_ensemble(name, eta=1.5)(inputs)
    torch.testing.assert_close(weighed, plain * inputs.iou[:, None] ** 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_scores_stand_autocast_half_precision_and_large_logits(make_inputs, name):
    inputs = make_inputs()
    expected = build_ensemble(name)(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(build_ensemble(name)(inputs), expected)
    extreme = make_inputs(
        query_logits=inputs.query_logits * 1000, clip_logits=inputs.clip_logits * 1000, clip_scale=1e4
    )
    scores = build_ensemble(name, kappa=3.0, eta=1.0)(extreme)
    assert scores.isfinite().all() and (scores >= 0).all() and (scores <= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_too_small_for_clip_is_not_judged_by_clip(make_inputs, name):
    inputs = make_inputs(clip_empty=torch.ones(40, dtype=torch.bool))
    other = make_inputs(
        clip_empty=inputs.clip_empty,
        clip_logits=torch.randn(40, 7),
        clip_embeddings=torch.zeros(40, 16),
    )
    ensemble = build_ensemble(name, kappa=2.0)
    torch.testing.assert_close(ensemble(inputs), ensemble(other))
    assert (ensemble.explain(inputs)["clip_weight"] == 0).all()
    if name != "modulation":  # which debiases these too
        torch.testing.assert_close(ensemble(inputs), build_ensemble("ldp", kappa=2.0)(inputs))


@pytest.mark.parametrize("name", NAMES)
def test_no_masks_and_one_class_are_served(make_inputs, name):
    assert build_ensemble(name)(make_inputs(masks=0)).shape == (0, 7)
    inputs = make_inputs(classes=1)
    not_void = 1 - inputs.query_logits.softmax(1)[:, -1]
    torch.testing.assert_close(build_ensemble(name)(inputs)[:, 0], not_void)


def test_fixed_clip_weight_is_the_formula_with_probabilities(make_inputs):
    inputs = make_inputs()
    full = inputs.query_logits.double().softmax(1)
    p = full[:, :-1] / full[:, :-1].sum(1, keepdim=True)
    q = inputs.clip_logits.double().softmax(1)
    for name, constants, clip_weight in [
        ("ldp", {}, 0.0),
        ("clip", {}, 1.0),
        ("uniform", {}, 0.5),
        ("uniform", {"level": 0.3}, 0.3),
    ]:
        lam = torch.full((40, 1), clip_weight, dtype=torch.float64).masked_fill(inputs.clip_empty[:, None], 0.0)
        for kappa in (1.0, 2.5):
            r = p ** (kappa * (1 - lam)) * q**lam
            expected = r / r.sum(1, keepdim=True) * (1 - full[:, -1:])
            got = build_ensemble(name, kappa=kappa, **constants)(inputs)
            torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "constants", "message"),
    [
        (
            "mace",
            {},
            "unknown ensemble 'mace' (did you mean 'mase'?); the valid ones are clip, embedding_sum, geometric, ldp",
        ),
        ("uniform", {"lvel": 1}, "no constant 'lvel' (did you mean 'level'?); the valid ones are eta, kappa"),
        ("ldp", {"kappa": 0}, "kappa must be > 0.0, got 0"),
        ("ldp", {"kappa": float("nan")}, "kappa must be"),
        ("ldp", {"kappa": float("inf")}, "kappa must be finite"),
        ("clip", {"eta": -0.1}, "eta must be ≥ 0.0, got -0.1"),
        ("uniform", {"level": 1.1}, "level must be ≤ 1.0"),
        ("geometric", {"alpha": 1.1}, "alpha must be ≤ 1.0"),
        ("geometric", {"beta": -1}, "beta must be ≥ 0.0"),
        ("mase", {"alpha": 0.9}, "alpha must not exceed beta"),
        ("mase", {"alpha": -0.1}, "alpha must be ≥ 0.0"),
        ("mase", {"beta": 1.1}, "beta must be ≤ 1.0"),
        ("mase", {"gamma": 0}, "gamma must be > 0.0"),
        ("mase", {"threshold": 2}, "threshold must be ≤ 1.0"),
        ("mase", {"rule": "prior"}, "unknown confidence rule 'prior'; the valid ones are posterior, ldp"),
        ("modulation", {"ratio": -1}, "ratio must be ≥ 0.0"),
        ("modulation", {"debias": -1}, "debias must be ≥ 0.0"),
    ],
)
def test_mistakes_are_answered_with_the_valid_choices(name, constants, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_ensemble(name, **constants)
