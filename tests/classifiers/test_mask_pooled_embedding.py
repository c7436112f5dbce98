import pytest
import torch

from possam.classifiers import MaskPooledEmbedding

B, Q, C, M, D, H, W = 2, 3, 8, 6, 5, 4, 7


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    shapes = {"queries": (B, Q, C), "mask_logits": (B, Q, H, W), "mask_features": (B, M, H, W)}
    given = {key: torch.randn(*shape, generator=generator) for key, shape in shapes.items()}
    given["mask_logits"][0, 1] = -1.0  # an empty mask
    return given | {"clip_features": torch.zeros(B, 9, 2, 2)}


@pytest.fixture
def head():
    torch.manual_seed(1)
    head = MaskPooledEmbedding(channels=C, embed_dim=D, mask_channels=M)
    for parameter in head.parameters():  # biases and norms start trivial and would hide mistakes
        parameter.data += 0.3 * torch.randn_like(parameter)
    return head.eval()


def test_it_is_the_formula_mask_by_mask(head, inputs):
    got = head(**inputs)
    assert got.shape == (B, Q, D)
    for b in range(B):
        for q in range(Q):
            inside = inputs["mask_logits"][b, q] > 0
            features = inputs["mask_features"][b][:, inside]
            pooled = features.mean(dim=1) if inside.any() else torch.zeros(M)
            normed = (pooled - pooled.mean()) / (pooled.var(unbiased=False) + head.norm.eps).sqrt()
            x = inputs["queries"][b, q] + head.projection(normed * head.norm.weight + head.norm.bias)
            first, second, third = head.mlp.layers
            expected = third(second(first(x).relu()).relu())
            torch.testing.assert_close(got[b, q], expected, atol=1e-5, rtol=1e-4)


def test_layers_together_are_layers_one_by_one(head, inputs):
    shared = (inputs["mask_features"], inputs["clip_features"])
    queries, masks = [inputs["queries"], inputs["queries"] + 1], [inputs["mask_logits"], -inputs["mask_logits"]]
    apart = torch.stack([head(q, m, *shared) for q, m in zip(queries, masks, strict=True)])
    torch.testing.assert_close(head.train().embed_layers(queries, masks, *shared), apart, atol=1e-5, rtol=1e-4)


def test_gradients_reach_everything_but_the_masks(head, inputs):
    for value in inputs.values():
        value.requires_grad_()
    head(**inputs).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    assert inputs["mask_logits"].grad is None and inputs["clip_features"].grad is None
    assert inputs["queries"].grad.abs().sum() > 0 and inputs["mask_features"].grad.abs().sum() > 0


def test_the_mask_features_width_is_the_queries_unless_given():
    assert MaskPooledEmbedding(channels=C, embed_dim=D).norm.normalized_shape == (C,)
