import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import build_ensemble


@pytest.mark.parametrize("k", [0.0, 1.0, 4.0])
def test_embeddings_are_added_whatever_the_vocabulary(make_inputs, k):
    inputs = make_inputs(shared=2)
    scores = build_ensemble("embedding_sum", ratio=k)(inputs)
    for i in range(len(inputs.iou)):
        summed = inputs.query_embeddings[i] + (0 if inputs.clip_empty[i] else k) * inputs.clip_embeddings[i]
        cosine = F.normalize(summed, dim=0) @ inputs.text.embeddings.T
        best = torch.stack([cosine[inputs.text.class_index == c].max() for c in range(inputs.text.num_classes)])
        expected = (12.0 * best).softmax(0) * (1 - inputs.query_logits[i].softmax(0)[-1])
        torch.testing.assert_close(scores[i], expected, atol=1e-6, rtol=1e-4)


def test_without_clip_it_is_the_query_alone_and_eta_weighs_the_iou(make_inputs):
    inputs = make_inputs()
    torch.testing.assert_close(build_ensemble("embedding_sum", ratio=0.0)(inputs), build_ensemble("ldp")(inputs))
    plain = build_ensemble("embedding_sum")(inputs)
    weighted = build_ensemble("embedding_sum", eta=1.0)
    torch.testing.assert_close(weighted(inputs), plain * inputs.iou[:, None])
    torch.testing.assert_close(weighted.without_iou()(inputs), plain)
    assert weighted.eta == 1.0
    share = weighted.explain(inputs)["clip_weight"]
    assert torch.equal(share, torch.where(inputs.clip_empty, 0.0, 0.5))


def test_constants_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"ratio must be ≥ 0\.0, got -1"):
        build_ensemble("embedding_sum", ratio=-1)
