import math

import torch
import torch.nn.functional as F

from possam.classifiers import QueryEmbedding


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries = [torch.randn(2, 5, 16, generator=generator) for _ in range(3)]
    return queries, F.normalize(torch.randn(2, 7, 12, generator=generator), dim=-1)


def head(**options):
    torch.manual_seed(0)
    return QueryEmbedding(channels=16, embed_dim=12, heads=4, **options)


def test_queries_attend_to_every_cell_in_clip_space():
    """METHOD.md 2.2, head by head with plain matrix products."""
    ours = head()
    (queries, *_), cells = inputs()
    attention = ours.cross.attention
    keys = (math.sqrt(12) * cells) @ ours.projection.weight.T + ours.projection.bias
    q, k, v = (
        x @ weight.T + bias
        for x, weight, bias in zip(
            (queries, keys, keys), attention.in_proj.weight.chunk(3), attention.in_proj.bias.chunk(3), strict=True
        )
    )
    mixed = torch.cat(
        [
            (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(-1) @ v[..., part]
            for part in (slice(4 * h, 4 * h + 4) for h in range(4))
        ],
        dim=-1,
    )
    expected = ours.mlp(ours.cross.norm(queries + attention.out_proj(mixed)))
    torch.testing.assert_close(ours(queries, cells), expected, atol=1e-5, rtol=1e-4)


def test_layers_together_are_each_by_itself():
    ours = head()
    queries, cells = inputs()
    together = ours.embed_layers(queries, cells)
    assert together.shape == (3, 2, 5, 12)
    for layer, one in zip(together, queries, strict=True):
        torch.testing.assert_close(layer, ours(one, cells), atol=1e-6, rtol=1e-5)


def test_without_cross_attention_it_is_an_mlp_of_three_layers():
    ours = head(cross_attention=False)
    (queries, *_), cells = inputs()
    assert {name.split(".")[0] for name in ours.state_dict()} == {"mlp"} and len(ours.mlp.layers) == 3
    assert torch.equal(ours(queries, cells), ours.mlp(queries))


def test_every_parameter_has_a_gradient():
    ours = head()
    queries, cells = inputs()
    ours.embed_layers(queries, cells).square().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
