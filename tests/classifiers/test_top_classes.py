"""The best classes from a vocabulary in parts are those of its scores as a whole."""

import weakref

import pytest
import torch

from possam.classifiers import ENSEMBLE_REGISTRY, ClassificationParts, Ensemble, streamed_top_k, top_classes


@pytest.mark.parametrize("part", [1, 3, 7, 100])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_streamed_top_k_is_topk_of_the_full_softmax(part, k):
    logits = 5 * torch.randn(20, 31, generator=torch.Generator().manual_seed(0))
    values, classes = logits.softmax(dim=1).topk(min(k, 31), dim=1)
    got = streamed_top_k(logits.split(part, dim=1), k)
    torch.testing.assert_close(got.scores, values)
    assert torch.equal(got.classes, classes)


def test_of_equals_the_lower_class_comes_first():
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 1.0]])
    for part in (1, 2, 5):
        assert streamed_top_k(logits.split(part, dim=1), 4).classes.tolist() == [[1, 2, 3, 0]]


def test_one_part_is_held_at_a_time():
    alive = []

    def parts():
        for _ in range(50):
            part = torch.randn(4, 10)
            alive.append(weakref.ref(part))
            yield part
            del part
            assert sum(one() is not None for one in alive) <= 1

    assert streamed_top_k(parts(), 3).scores.shape == (4, 3) and len(alive) == 50


@pytest.mark.parametrize(
    ("parts", "k", "message"), [([], 5, "at least one part"), ([torch.ones(2, 3)], 0, "k must be")]
)
def test_mistakes_are_refused(parts, k, message):
    with pytest.raises(ValueError, match=message):
        streamed_top_k(parts, k)


def in_parts(inputs, classes):
    """What `ClassificationParts` makes of the embeddings that `make_inputs` has."""
    void = inputs.query_logits[:, -1:]

    def classify(embeddings, text):
        return torch.cat([text.logits(embeddings, inputs.query_scale), void], dim=1)

    shared = ("query_embeddings", "clip_embeddings", "iou", "clip_empty", "text", "train_text", "exact_seen",
              "query_scale", "clip_scale")  # fmt: skip
    return ClassificationParts(
        **{name: getattr(inputs, name) for name in shared}, classify=classify, classes_per_part=classes
    )


OPTIONS = [*((name, {}) for name in ENSEMBLE_REGISTRY), ("mase", {"rule": "ldp"}), ("mase", {"threshold": -1.0}),
           ("mase", {"kappa": 1.5, "eta": 0.5, "gamma": 2.0}), ("geometric", {"kappa": 0.7, "eta": 1.0}),
           ("modulation", {"eta": 1.0, "kappa": 2.0})]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), OPTIONS)
@pytest.mark.parametrize("classes", [1, 4, 64])
def test_every_ensemble_gives_its_best_scores_in_parts(make_inputs, name, options, classes):
    inputs = make_inputs(classes=11, shared=3)
    ensemble = ENSEMBLE_REGISTRY[name](**options)
    values, order = ensemble(inputs).topk(5, dim=1)
    got = top_classes(ensemble, in_parts(inputs, classes), 5)
    torch.testing.assert_close(got.scores, values, rtol=1e-4, atol=1e-6)
    assert torch.equal(got.classes, order)


def test_a_part_is_no_larger_than_said_and_logits_are_made_in_turn(make_inputs):
    inputs = make_inputs(classes=25)
    sizes = [part.query_logits.shape[1] - 1 for part in in_parts(inputs, 8)]
    assert sizes == [8, 8, 8, 1]
    with pytest.raises(ValueError, match="classes_per_part must be at least 1"):
        in_parts(inputs, 0)


def test_an_ensemble_of_another_form_says_so(make_inputs):
    class Own(Ensemble):
        def __call__(self, inputs):
            return inputs.clip_logits

        def explain(self, inputs):
            return {}

    with pytest.raises(ValueError, match="Own cannot score a vocabulary in parts"):
        top_classes(Own(), in_parts(make_inputs(), 4))
