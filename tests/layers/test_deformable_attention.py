import math

import pytest
import torch

from possam.layers import MultiScaleDeformableAttention, level_reference_points

SIZES = [(2, 3), (5, 4), (7, 9)]
POSITIONS = sum(height * width for height, width in SIZES)


def plain_bilinear(image, x, y):
    """D values of a D×h×w map at position (x, y), counted from the center of the first; zero outside."""
    value = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return value


def plain_attention(module, query, reference, memory):
    """Deformable DETR's equation 3, one query, head, level and point at a time."""
    batch, queries, channels = query.shape
    depth = channels // module.heads
    output = torch.zeros(batch, queries, channels)
    for b in range(batch):
        value = module.value_proj(memory[b])
        for q in range(queries):
            offsets = module.sampling_offsets(query[b, q]).view(module.heads, module.levels, module.points, 2)
            weights = module.attention_weights(query[b, q]).view(module.heads, -1).softmax(-1)
            weights = weights.view(module.heads, module.levels, module.points)
            for m in range(module.heads):
                start = 0
                for level, (height, width) in enumerate(SIZES):
                    rows = value[start : start + height * width, m * depth : (m + 1) * depth]
                    image = rows.T.reshape(depth, height, width)
                    start += height * width
                    for p in range(module.points):
                        x = reference[q, 0] * width - 0.5 + offsets[m, level, p, 0]
                        y = reference[q, 1] * height - 0.5 + offsets[m, level, p, 1]
                        sample = plain_bilinear(image, x.item(), y.item())
                        output[b, q, m * depth : (m + 1) * depth] += weights[m, level, p] * sample
    return module.output_proj(output)


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = MultiScaleDeformableAttention(channels=8, levels=3, heads=2, points=3)
    with torch.no_grad():
        module.sampling_offsets.weight.normal_(std=0.5)
        module.attention_weights.weight.normal_()
    return module


def test_equals_the_plain_formula(module):
    query, memory, reference = torch.randn(2, 6, 8), torch.randn(2, POSITIONS, 8), torch.rand(6, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            module(query, reference, memory, SIZES), plain_attention(module, query, reference, memory)
        )


def test_reference_points_are_centers_in_order():
    points = level_reference_points([(1, 2), (2, 1)])
    torch.testing.assert_close(points, torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]))


def test_at_first_heads_look_around_evenly():
    module = MultiScaleDeformableAttention(channels=8, levels=3, heads=4, points=2)
    offsets = module.sampling_offsets(torch.randn(8)).view(4, 3, 2, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for level in range(3):
        torch.testing.assert_close(offsets[:, level, 0], directions, atol=1e-6, rtol=0)
        torch.testing.assert_close(offsets[:, level, 1], 2 * directions, atol=1e-6, rtol=0)
    assert (module.attention_weights(torch.randn(8)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sampling_stays_in_float32_under_autocast(module, dtype):
    query, memory, reference = torch.randn(1, 4, 8), torch.randn(1, POSITIONS, 8), torch.rand(4, 2)
    expected = module(query, reference, memory, SIZES)
    with torch.autocast("cpu", dtype=dtype):
        output = module(query, reference, memory, SIZES)
    assert output.dtype == dtype
    # only the two projections are rounded: offsets in half precision would move samples visibly
    torch.testing.assert_close(output.float(), expected, atol=0.03, rtol=0.03)


def test_an_exported_module_has_only_operators_of_pytorch(module):
    inputs = torch.randn(2, 6, 8), torch.rand(6, 2), torch.randn(2, POSITIONS, 8)
    program = torch.export.export(module, (*inputs, SIZES), strict=False)
    written = str(program.graph_module.print_readable(print_output=False))
    assert "grid_sampler" in written and "possam.deformable" not in written
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*inputs, SIZES), module(*inputs, SIZES))


def test_wrong_sizes_are_refused(module):
    with pytest.raises(ValueError, match="expected 3 levels"):
        module(torch.zeros(1, 2, 8), torch.zeros(2, 2), torch.zeros(1, POSITIONS, 8), SIZES[:2])
    with pytest.raises(ValueError, match=f"{POSITIONS - 1} positions"):
        module(torch.zeros(1, 2, 8), torch.zeros(2, 2), torch.zeros(1, POSITIONS - 1, 8), SIZES)
    with pytest.raises(ValueError, match="9 and 2"):
        MultiScaleDeformableAttention(channels=9, levels=3, heads=2, points=4)
