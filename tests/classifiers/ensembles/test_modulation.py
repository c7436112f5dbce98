import torch
import torch.nn.functional as F

from possam.classifiers import build_ensemble
from possam.vocabulary import ClassEmbeddings


def reference(inputs, a, b):
    """METHOD.md 2, with loops over classes and names."""
    text, train = inputs.text, inputs.train_text
    classes = [text.embeddings[text.class_index == k] for k in range(text.num_classes)]
    nearest = torch.stack(
        [max(name @ known for name in names for known in train.embeddings) for names in classes]
    )
    s = nearest.mean()
    scores = []
    for i in range(len(inputs.iou)):
        fused = inputs.query_embeddings[i]
        if not inputs.clip_empty[i]:
            fused = fused + a * (1 - s) * inputs.clip_embeddings[i]
        fused = F.normalize(fused, dim=0)
        z = torch.stack([inputs.query_scale * max(fused @ name for name in names) for names in classes])
        z = z / nearest**b
        void = inputs.query_logits[i].softmax(0)[-1]
        scores.append((1 - void) * z.softmax(0))
    return torch.stack(scores)


def test_embeddings_are_fused_by_domain_similarity_and_logits_debiased(make_inputs):
    inputs = make_inputs(shared=2)
    for a, b in [(10.0, 0.5), (3.0, 0.0), (0.0, 1.0)]:
        got = build_ensemble("modulation", ratio=a, debias=b)(inputs)
        torch.testing.assert_close(got, reference(inputs, a, b), atol=1e-5, rtol=1e-4)
    assert torch.equal(
        build_ensemble("modulation")(inputs), build_ensemble("modulation", ratio=10.0, debias=0.5)(inputs)
    )


def test_on_the_training_vocabulary_it_is_ldp_alone(make_inputs):
    inputs = make_inputs(classes=5, train_classes=5, shared=5)
    ensemble = build_ensemble("modulation", kappa=2.0)
    torch.testing.assert_close(ensemble(inputs), build_ensemble("ldp", kappa=2.0)(inputs))
    assert (ensemble.explain(inputs)["clip_weight"] == 0).all()


def test_embeddings_of_any_length_count_as_directions(make_inputs):
    inputs = make_inputs()
    longer = make_inputs(
        clip_embeddings=inputs.clip_embeddings * 7, query_embeddings=inputs.query_embeddings * 3
    )
    ensemble = build_ensemble("modulation")
    torch.testing.assert_close(ensemble(longer), ensemble(inputs))


def test_classes_opposite_to_all_training_classes_have_finite_scores(make_inputs):
    inputs = make_inputs(classes=3)
    known = inputs.text.embeddings[:1]
    train = ClassEmbeddings(embeddings=-known, class_index=torch.tensor([0]), num_classes=1)
    opposite = make_inputs(classes=3, train_text=train)
    assert (train.cosine(inputs.text.embeddings) < 0).any()
    scores = build_ensemble("modulation")(opposite)
    assert scores.isfinite().all() and (scores.sum(1) > 0).all()


def test_background_words_do_not_count_in_the_similarity_of_the_vocabulary(make_inputs):
    words = make_inputs(classes=4)
    text = words.text.join(words.train_text)
    both = make_inputs(
        classes=9,
        text=text,
        train_text=words.train_text,
        query_logits=torch.cat([text.logits(words.query_embeddings, 12.0), words.query_logits[:, -1:]], dim=1),
        clip_logits=text.logits(words.clip_embeddings, 20.0),
        query_embeddings=words.query_embeddings,
        clip_embeddings=words.clip_embeddings,
        iou=words.iou,
        clip_empty=words.clip_empty,
        background=5,
    )
    ensemble = build_ensemble("modulation")
    assert torch.equal(ensemble.explain(both)["clip_weight"], ensemble.explain(words)["clip_weight"])
    among = ensemble(both)[:, :4]
    torch.testing.assert_close(
        among / among.sum(dim=1, keepdim=True), ensemble(words) / ensemble(words).sum(dim=1, keepdim=True)
    )
