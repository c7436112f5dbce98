import torch
import torch.nn.functional as F

from possam.classifiers import build_ensemble
from possam.vocabulary import ClassEmbeddings


def reference(evidence, a, b):
    """METHOD.md 2, with loops over classes and names."""
    text, train = evidence.text, evidence.train_text
    classes = [text.embeddings[text.class_index == k] for k in range(text.num_classes)]
    nearest = torch.stack(
        [max(name @ known for name in names for known in train.embeddings) for names in classes]
    )
    s = nearest.mean()
    scores = []
    for i in range(len(evidence.iou)):
        fused = evidence.ldp_embeddings[i]
        if not evidence.clip_empty[i]:
            fused = fused + a * (1 - s) * evidence.clip_embeddings[i]
        fused = F.normalize(fused, dim=0)
        z = torch.stack([evidence.ldp_scale * max(fused @ name for name in names) for names in classes])
        z = z / nearest**b
        void = evidence.ldp_logits[i].softmax(0)[-1]
        scores.append((1 - void) * z.softmax(0))
    return torch.stack(scores)


def test_embeddings_are_fused_by_domain_similarity_and_logits_debiased(make_evidence):
    evidence = make_evidence(shared=2)
    for a, b in [(10.0, 0.5), (3.0, 0.0), (0.0, 1.0)]:
        got = build_ensemble("modulation", ratio=a, debias=b)(evidence)
        torch.testing.assert_close(got, reference(evidence, a, b), atol=1e-5, rtol=1e-4)
    assert torch.equal(
        build_ensemble("modulation")(evidence), build_ensemble("modulation", ratio=10.0, debias=0.5)(evidence)
    )


def test_on_the_training_vocabulary_it_is_ldp_alone(make_evidence):
    evidence = make_evidence(classes=5, train_classes=5, shared=5)
    ensemble = build_ensemble("modulation", kappa=2.0)
    torch.testing.assert_close(ensemble(evidence), build_ensemble("ldp", kappa=2.0)(evidence))
    assert (ensemble.explain(evidence)["trust"] == 0).all()


def test_embeddings_of_any_length_count_as_directions(make_evidence):
    evidence = make_evidence()
    longer = make_evidence(
        clip_embeddings=evidence.clip_embeddings * 7, ldp_embeddings=evidence.ldp_embeddings * 3
    )
    ensemble = build_ensemble("modulation")
    torch.testing.assert_close(ensemble(longer), ensemble(evidence))


def test_classes_opposite_to_all_training_classes_have_finite_scores(make_evidence):
    evidence = make_evidence(classes=3)
    known = evidence.text.embeddings[:1]
    train = ClassEmbeddings(embeddings=-known, class_index=torch.tensor([0]), num_classes=1)
    opposite = make_evidence(classes=3, train_text=train)
    assert (train.cosine(evidence.text.embeddings) < 0).any()
    scores = build_ensemble("modulation")(opposite)
    assert scores.isfinite().all() and (scores.sum(1) > 0).all()
