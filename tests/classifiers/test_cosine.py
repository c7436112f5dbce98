import math

import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import CosineClassifier, FixedCosineClassifier
from possam.vocabulary import ClassEmbeddings


@pytest.fixture
def text():
    rows = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    return ClassEmbeddings(embeddings=rows, class_index=torch.tensor([0, 0, 1, 2, 2]), num_classes=3)


def test_logits_are_scaled_cosines_with_void_last(text):
    torch.manual_seed(1)
    classifier = CosineClassifier(embed_dim=8)
    x = 5 * torch.randn(2, 4, 8)
    got = classifier(x, text)
    assert got.shape == (2, 4, 4)
    for b in range(2):
        for q in range(4):
            cosine = [torch.cosine_similarity(x[b, q], row, dim=0) for row in text.embeddings]
            void = torch.cosine_similarity(x[b, q], classifier.void, dim=0)
            expected = [max(cosine[:2]), cosine[2], max(cosine[3:]), void]
            torch.testing.assert_close(got[b, q], torch.stack(expected) / 0.07)


def test_logits_are_float32_under_autocast(text):
    classifier = CosineClassifier(embed_dim=8)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = classifier(x, text)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, classifier(x, text))
    assert classifier(x.bfloat16(), text).dtype == torch.float32


def test_void_and_temperature_learn(text):
    classifier = CosineClassifier(embed_dim=8)
    labels = torch.tensor([0, 3, 2])
    loss = F.cross_entropy(classifier(torch.randn(3, 8), text), labels)
    loss.backward()
    assert classifier.void.grad.abs().sum() > 0 and classifier.log_scale.grad != 0
    assert {name for name, _ in classifier.named_parameters()} == {"void", "log_scale"}


def test_temperature_never_passes_100_and_can_come_back(text):
    classifier = CosineClassifier(embed_dim=8)
    assert math.isclose(classifier.scale.item(), 1 / 0.07, rel_tol=1e-6)
    with torch.no_grad():
        classifier.log_scale.fill_(6.0)
    assert classifier.scale.item() == 100.0
    classifier.scale.backward()
    assert classifier.log_scale.grad > 0, "a loss that wants a lower temperature is heard"
    classifier.log_scale.grad = None
    (-classifier.scale).backward()
    assert classifier.log_scale.grad == 0, "one that wants a higher is not"
    with torch.no_grad():
        classifier.log_scale.fill_(1.0)
    classifier.log_scale.grad = None
    (-classifier.scale).backward()
    torch.testing.assert_close(classifier.log_scale.grad, torch.tensor(-math.e))


def test_one_classifier_serves_vocabularies_in_any_order(text):
    classifier = CosineClassifier(embed_dim=8)
    other = ClassEmbeddings(embeddings=torch.eye(8), class_index=torch.arange(8), num_classes=8)
    x = torch.randn(3, 8)
    first = classifier(x, text)
    assert classifier(x, other).shape == (3, 9)
    assert torch.equal(classifier(x, text), first)


def test_a_fixed_classifier_learns_nothing_and_its_background_is_zero_or_absent(text):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    fixed, none = FixedCosineClassifier(embed_dim=8), FixedCosineClassifier(embed_dim=8, background=False)
    learned = CosineClassifier(embed_dim=8)
    expected = learned(x, text)[:, :-1] * 100 * 0.07
    for classifier, last in ((fixed, 0.0), (none, -math.inf)):
        assert not classifier.state_dict() and not list(classifier.parameters())
        logits = classifier(x, text)
        torch.testing.assert_close(logits[:, :-1], expected)
        assert (logits[:, -1] == last).all()
    assert not none(x, text).softmax(-1)[:, -1].any()


def test_a_fixed_temperature_is_neither_learned_nor_saved(text):
    classifier = CosineClassifier(embed_dim=8, temperature=0.01)
    assert classifier.scale == 100 and set(classifier.state_dict()) == {"void"}
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(classifier(x, text)[:, :3], 100 * text.logits(x, 1.0))
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            CosineClassifier(embed_dim=8, temperature=wrong)
