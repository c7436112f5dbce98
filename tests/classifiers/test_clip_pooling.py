import pytest
import torch

from possam.classifiers import ClipPooling


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "queries": torch.randn(2, 3, 7, generator=generator),
        "mask_logits": torch.randn(2, 3, 4, 5, generator=generator),
        "mask_features": torch.randn(2, 9, 16, 20, generator=generator),
        "clip_features": torch.randn(2, 6, 4, 5, generator=generator),
    }


MATRIX = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pooling():
    return ClipPooling(project=lambda pooled: pooled @ MATRIX, channels=7, embed_dim=8)


def clips_own(inputs, b, q):
    inside = inputs["mask_logits"][b, q] > 0
    return inputs["clip_features"][b][:, inside].mean(1) @ MATRIX


def test_it_starts_as_clips_projection_of_the_mean_inside_each_mask(pooling, inputs):
    got = pooling(**inputs)
    for b in range(2):
        for q in range(3):
            torch.testing.assert_close(got[b, q], clips_own(inputs, b, q), atol=1e-5, rtol=1e-5)


def test_the_query_adds_what_it_has_learned(pooling, inputs):
    torch.nn.init.normal_(pooling.query_projection.weight)
    expected = clips_own(inputs, 1, 2) + pooling.query_projection.weight @ inputs["queries"][1, 2]
    torch.testing.assert_close(pooling(**inputs)[1, 2], expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_everything_trained_but_not_the_masks(pooling, inputs):
    for value in inputs.values():
        value.requires_grad_()
    pooling(**inputs).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in pooling.parameters())
    assert inputs["mask_logits"].grad is None and inputs["queries"].grad is not None


def test_layers_together_are_layers_one_by_one(pooling, inputs):
    torch.nn.init.normal_(pooling.query_projection.weight)
    shared = (inputs["mask_features"], inputs["clip_features"])
    queries, masks = [inputs["queries"], inputs["queries"] + 1], [inputs["mask_logits"], -inputs["mask_logits"]]
    apart = torch.stack([pooling(q, m, *shared) for q, m in zip(queries, masks, strict=True)])
    torch.testing.assert_close(pooling.embed_layers(queries, masks, *shared), apart)
