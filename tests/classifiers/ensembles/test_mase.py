import math

import pytest
import torch

from possam.classifiers import build_ensemble
from possam.classifiers.ensembles.mase import is_familiar, training_mass

CONSTANTS = {"alpha": 0.1, "beta": 0.9, "gamma": 1.7, "kappa": 2.0, "eta": 0.5}


def reference(inputs, rule, threshold, *, alpha, beta, gamma, kappa, eta, rho):
    """METHOD.md 1.9 mask by mask in plain Python; returns scores, λ and c."""
    train, names = inputs.train_text.embeddings.tolist(), inputs.text.embeddings.tolist()

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    novel = [name for name in names if max(dot(name, known) for known in train) <= threshold]
    scores, weights, confidences = [], [], []
    for i in range(len(inputs.iou)):
        s, x = float(inputs.iou[i]), inputs.clip_embeddings[i].tolist()
        full = inputs.query_logits[i].double().softmax(0)
        p = inputs.query_logits[i, :-1].double().softmax(0)
        q = inputs.clip_logits[i].double().softmax(0)
        if rule == "ldp":
            c = s**rho * float(p.max())
        else:
            seen = sum(math.exp(inputs.clip_scale * dot(x, name)) for name in train)
            unseen = sum(math.exp(inputs.clip_scale * dot(x, name)) for name in novel)
            c = s**rho * seen / (seen + unseen)
        clip_weight = 0.0 if inputs.clip_empty[i] else alpha + (beta - alpha) * (1 - c) ** gamma
        r = p ** (kappa * (1 - clip_weight)) * q**clip_weight
        scores.append((1 - full[-1]) * r / r.sum() * s**eta)
        weights.append(clip_weight)
        confidences.append(c)
    return torch.stack(scores), torch.tensor(weights), torch.tensor(confidences)


@pytest.mark.parametrize("rule", ["posterior", "ldp"])
@pytest.mark.parametrize("shared", [0, 3])
@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_scores_clip_weight_and_confidence_follow_the_method(make_inputs, rule, shared, rho):
    inputs = make_inputs(shared=shared)
    ensemble = build_ensemble("mase", rule=rule, threshold=0.3, rho=rho, **CONSTANTS)
    scores, clip_weight, confidence = reference(inputs, rule, 0.3, rho=rho, **CONSTANTS)
    torch.testing.assert_close(ensemble(inputs).double(), scores, atol=1e-6, rtol=1e-5)
    explained = ensemble.explain(inputs)
    torch.testing.assert_close(explained["clip_weight"], clip_weight)
    torch.testing.assert_close(explained["confidence"], confidence)
    torch.testing.assert_close(ensemble.clip_weight(inputs), clip_weight[:, None])
    assert (clip_weight == 0).any() and (clip_weight > 0).any()


def test_the_default_rule_is_the_posterior_with_the_method_threshold(make_inputs):
    inputs = make_inputs(shared=3)
    expected = build_ensemble("mase", rule="posterior", threshold=0.9)(inputs)
    assert torch.equal(build_ensemble("mase")(inputs), expected)


def test_only_names_far_from_all_training_names_are_novel(make_inputs):
    inputs = make_inputs(shared=3)
    assert is_familiar(inputs.text, inputs.train_text, 0.9).tolist() == [True] * 6 + [False] * 8
    # A cosine equal to the threshold still counts as novel.
    exact = make_inputs()
    cosine = exact.train_text.cosine(exact.text.embeddings).amax(dim=1)
    assert not is_familiar(exact.text, exact.train_text, cosine[4].item())[4]


def test_the_mass_is_one_without_novel_names_and_counts_every_name(make_inputs):
    inputs = make_inputs(classes=3, train_classes=5, shared=3)
    assert (training_mass(inputs, 0.9) == 1).all()
    flat = make_inputs(classes=7, train_classes=5, shared=2, clip_scale=0.0)
    torch.testing.assert_close(training_mass(flat, 0.9), torch.full((40,), 10 / (10 + 2 * 5)))


def test_the_mass_is_stable_at_large_scales(make_inputs):
    inputs = make_inputs(clip_scale=1e4)
    mass = training_mass(inputs, 0.9)
    nearest = inputs.train_text.cosine(inputs.clip_embeddings).amax(1)
    other = inputs.text.cosine(inputs.clip_embeddings).amax(1)
    clear = (nearest - other).abs() > 0.01
    assert clear.any()
    torch.testing.assert_close(mass[clear], (nearest > other)[clear].float())


def test_clip_weight_falls_as_the_confidence_grows(make_inputs):
    inputs = make_inputs(clip_empty=torch.zeros(40, dtype=torch.bool))
    explained = build_ensemble("mase", gamma=0.5).explain(inputs)
    order = explained["confidence"].argsort()
    assert (explained["clip_weight"][order].diff() <= 0).all()
    sure = make_inputs(
        classes=3, shared=3, iou=torch.ones(40), clip_empty=torch.zeros(40, dtype=torch.bool)
    )
    torch.testing.assert_close(build_ensemble("mase").explain(sure)["clip_weight"], torch.full((40,), 0.2))
    unsure = make_inputs(iou=torch.zeros(40), clip_empty=torch.zeros(40, dtype=torch.bool))
    torch.testing.assert_close(build_ensemble("mase").explain(unsure)["clip_weight"], torch.full((40,), 0.8))


def test_equal_bounds_are_the_uniform_ensemble(make_inputs):
    inputs = make_inputs()
    got = build_ensemble("mase", alpha=0.5, beta=0.5)(inputs)
    torch.testing.assert_close(got, build_ensemble("uniform")(inputs))
