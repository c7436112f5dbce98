import math

import torch
import torch.nn.functional as F

from possam.classifiers import QueryEmbedding, QueryOnlyEmbedding


def inputs(seed=0):
    """Three layers of five queries and masks, the last of which has no cell, and 3×4 cells."""
    generator = torch.Generator().manual_seed(seed)
    queries = [torch.randn(2, 5, 16, generator=generator) for _ in range(3)]
    masks = [F.interpolate(torch.randn(2, 5, 3, 4, generator=generator), scale_factor=2.0) for _ in range(3)]
    for mask in masks:
        mask[:, -1] = -1
    return queries, masks, F.normalize(torch.randn(2, 3, 4, 12, generator=generator), dim=-1)


def head(**options):
    torch.manual_seed(0)
    return QueryEmbedding(channels=16, embed_dim=12, heads=4, **options)


def test_queries_attend_to_the_cells_of_their_masks_in_clip_space():
    """METHOD.md 2.2, query by query and head by head."""
    ours = head()
    (queries, *_), (masks, *_), cells = inputs()
    weights, biases = ours.cross.attention.in_proj.weight.chunk(3), ours.cross.attention.in_proj.bias.chunk(3)
    got = ours(queries, masks, cells)
    for image in range(2):
        for query in range(5):
            inside = F.interpolate(masks, size=(3, 4), mode="bilinear")[image, query] >= 0
            assert inside.any() == (query < 4)
            seen = cells[image][inside] if inside.any() else cells[image].flatten(0, 1)
            keys = (math.sqrt(12) * seen) @ ours.projection.weight.T + ours.projection.bias
            one = queries[image, query]
            q, k, v = (x @ weight.T + bias for x, weight, bias in zip((one, keys, keys), weights, biases, strict=True))
            parts = [slice(4 * h, 4 * h + 4) for h in range(4)]
            mixed = torch.cat([(k[:, part] @ q[part] / 2).softmax(0) @ v[:, part] for part in parts])
            expected = ours.mlp(ours.cross.norm(one + ours.cross.attention.out_proj(mixed)))
            torch.testing.assert_close(got[image, query], expected, atol=1e-5, rtol=1e-4)


def test_layers_together_are_each_by_itself():
    ours = head()
    queries, masks, cells = inputs()
    together = ours.embed_layers(queries, masks, cells)
    assert together.shape == (3, 2, 5, 12)
    for layer, one, mask in zip(together, queries, masks, strict=True):
        torch.testing.assert_close(layer, ours(one, mask, cells), atol=1e-6, rtol=1e-5)


def test_without_cross_attention_it_is_an_mlp_of_three_layers():
    ours = head(cross_attention=False)
    (queries, *_), (masks, *_), cells = inputs()
    assert {name.split(".")[0] for name in ours.state_dict()} == {"mlp"} and len(ours.mlp.layers) == 3
    assert torch.equal(ours(queries, masks, cells), ours.mlp(queries))


def test_every_parameter_has_a_gradient():
    ours = head()
    queries, masks, cells = inputs()
    ours.embed_layers(queries, masks, cells).square().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_the_query_alone_is_an_mlp_of_three_layers():
    ours = QueryOnlyEmbedding(channels=16, embed_dim=12)
    queries, masks, _ = inputs()
    unused = torch.full((2, 1, 1, 1), torch.nan)
    together = ours.embed_layers(queries, masks, unused, unused)
    assert together.shape == (3, 2, 5, 12) and len(ours.mlp.layers) == 3
    for layer, one, mask in zip(together, queries, masks, strict=True):
        torch.testing.assert_close(layer, ours(one, mask, unused, unused), atol=1e-6, rtol=1e-5)
