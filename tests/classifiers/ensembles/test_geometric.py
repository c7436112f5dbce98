import torch

from possam.classifiers import build_ensemble


def reference(inputs, alpha, beta):
    """Mask by mask and class by class, in double precision."""
    scores = torch.zeros_like(inputs.clip_logits, dtype=torch.float64)
    for i in range(len(scores)):
        full = inputs.query_logits[i].double().softmax(0)
        p = inputs.query_logits[i, :-1].double().softmax(0)
        q = inputs.clip_logits[i].double().softmax(0)
        r = []
        for k in range(len(p)):
            exponent = 0.0 if inputs.clip_empty[i] else (alpha if inputs.exact_seen[k] else beta)
            r.append(p[k] ** (1 - exponent) * q[k] ** exponent)
        scores[i] = torch.stack(r) / sum(r) * (1 - full[-1])
    return scores


def test_seen_and_unseen_classes_have_their_own_exponents(make_inputs):
    inputs = make_inputs(shared=3)
    assert inputs.clip_empty.any() and not inputs.clip_empty.all()
    for constants, alpha, beta in [({}, 0.4, 0.8), ({"alpha": 0.1, "beta": 0.95}, 0.1, 0.95)]:
        got = build_ensemble("geometric", **constants)(inputs)
        torch.testing.assert_close(got.double(), reference(inputs, alpha, beta), atol=1e-6, rtol=1e-5)


def test_equal_exponents_are_the_uniform_ensemble(make_inputs):
    inputs = make_inputs(shared=3)
    got = build_ensemble("geometric", alpha=0.6, beta=0.6, kappa=2.0)(inputs)
    torch.testing.assert_close(got, build_ensemble("uniform", level=0.6, kappa=2.0)(inputs))


def test_clip_weight_is_explained_as_the_mean_over_classes(make_inputs):
    inputs = make_inputs(classes=4, shared=1, clip_empty=torch.zeros(40, dtype=torch.bool))
    clip_weight = build_ensemble("geometric").explain(inputs)["clip_weight"]
    torch.testing.assert_close(clip_weight, torch.full((40,), (0.4 + 3 * 0.8) / 4))
