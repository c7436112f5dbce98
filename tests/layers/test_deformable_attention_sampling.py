import pytest
import torch

from possam.layers import deformable_attention_cpu, deformable_attention_sampling, deformable_sampling
from tests.reference.deformable_attention import sample

SIZES = [(1, 1), (2, 3), (1, 4), (5, 1), (7, 9)]
POSITIONS = sum(height * width for height, width in SIZES)


def make_inputs(queries):
    """Value, grid and weights in float64; many places are outside, some of them far."""
    torch.manual_seed(0)
    value = torch.randn(2, POSITIONS, 2, 3, dtype=torch.float64, requires_grad=True)
    grid = (torch.rand(2, queries, 2, 5, 3, 2, dtype=torch.float64) * 3 - 1.5).requires_grad_()
    with torch.no_grad():
        grid[0, 0] *= 1e6
    weights = torch.rand(2, queries, 2, 5, 3, dtype=torch.float64, requires_grad=True)
    return value, grid, weights


@pytest.fixture
def inputs():
    return make_inputs(4)


def outputs_and_gradients(function, value, grid, weights):
    leaves = [x.detach().requires_grad_() for x in (value, grid, weights)]
    output = function(leaves[0], SIZES, *leaves[1:])
    gradient = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    return [output, *torch.autograd.grad(output, leaves, gradient)]


@pytest.mark.parametrize("plain", [False, True])
def test_equals_the_reference_with_gradients(inputs, plain, monkeypatch):
    monkeypatch.setattr(deformable_attention_cpu, "_QUERIES", 3)  # of the four
    value, grid, weights = inputs
    turned = value.mT.contiguous().mT, grid.mT.contiguous().mT, weights.mT.contiguous().mT
    found = outputs_and_gradients(lambda *x: deformable_sampling(*x, plain=plain), *turned)
    for ours, theirs in zip(found, outputs_and_gradients(sample, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients():
    assert torch.autograd.gradcheck(lambda *x: deformable_sampling(x[0], SIZES, *x[1:]), make_inputs(1))


@pytest.mark.parametrize("size", [(1, 1), (2, 2)])
def test_levels_with_fewer_positions_than_a_query_has_samples(size):
    torch.manual_seed(0)
    value = torch.randn(1, size[0] * size[1], 1, 2, dtype=torch.float64, requires_grad=True)
    grid = (torch.rand(1, 2, 1, 1, 4, 2, dtype=torch.float64) * 2 - 1).requires_grad_()
    weights = torch.rand(1, 2, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: deformable_sampling(x[0], [size], *x[1:]), (value, grid, weights))


def test_a_place_right_on_a_position_has_the_slope_of_its_right_side():
    value = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64).view(1, 4, 1, 1)
    weights = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    for column, slope in enumerate((9.0, 90.0, 900.0, -1000.0)):
        place = [(column + 0.5) / 4 * 2 - 1, 0.0]
        for plain in (False, True):
            grid = torch.tensor(place, dtype=torch.float64).view(1, 1, 1, 1, 1, 2).requires_grad_()
            deformable_sampling(value, [(1, 4)], grid, weights, plain=plain).sum().backward()
            assert grid.grad[..., 0].item() == slope * 2
            assert grid.flatten().tolist() == place


def test_float32_is_as_near_to_the_truth_as_grid_sample(inputs):
    expected = outputs_and_gradients(sample, *inputs)
    single = [x.float() for x in inputs]
    results = (outputs_and_gradients(function, *single) for function in (deformable_sampling, sample))
    for ours, theirs, truth in zip(*results, expected, strict=True):
        error = (ours - truth).abs().max()
        assert ours.dtype == torch.float32 and error < 1e-5 * truth.abs().max()
        assert error < 4 * (theirs - truth).abs().max() + 1e-6


@pytest.mark.parametrize("plain", [False, True])
def test_half_precision_values_are_summed_in_the_dtype_of_the_grid(inputs, plain):
    value, grid, weights = inputs
    value = value.bfloat16()
    expected = outputs_and_gradients(deformable_sampling, value.double(), grid, weights)
    found = outputs_and_gradients(lambda *x: deformable_sampling(*x, plain=plain), value, grid, weights)
    assert [x.dtype for x in found] == [torch.bfloat16, torch.bfloat16, torch.float64, torch.float64]
    torch.testing.assert_close(found[0], expected[0].bfloat16())
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=0.03, rtol=0.03)


def test_places_that_are_no_numbers_show_in_the_output_and_end_nothing(inputs):
    value, grid, weights = (x.detach().clone() for x in inputs)
    grid[0, 1, 0, 2, 1, 0] = float("nan")
    grid[1, 2, 1, 4, 0] = float("inf")
    output, to_value, to_grid, to_weights = outputs_and_gradients(deformable_sampling, value, grid, weights)
    assert output[0, 1, :3].isnan().all() and output.isnan().sum() == 3
    assert to_value.isnan().any() and to_weights.isnan().sum() == 1
    assert (to_grid[1, 2, 1, 4, 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_again_in_the_backward_pass_changes_nothing(inputs, monkeypatch, dtype):
    value, grid, weights = (x.float() for x in inputs)
    calls, results = [], []
    plain = deformable_attention_sampling._sample_by_grid

    def counted(*arguments):
        calls.append(1)
        return plain(*arguments)

    monkeypatch.setattr(deformable_attention_sampling, "_sample_by_grid", counted)
    for limit, times in ((2**24, 1), (0, 2)):
        monkeypatch.setattr(deformable_attention_sampling, "KEEP_SAMPLES_UP_TO", limit)
        calls.clear()
        results.append(
            outputs_and_gradients(lambda *x: deformable_sampling(*x, plain=True), value.to(dtype), grid, weights)
        )
        assert len(calls) == times
    for kept, again in zip(*results, strict=True):
        torch.testing.assert_close(kept, again, atol=0, rtol=0)


def test_as_an_operator_of_pytorch(inputs):
    value, grid, weights = (x.float().detach().requires_grad_() for x in inputs)
    sides = [side for size in SIZES for side in size]
    torch.library.opcheck(torch.ops.possam.deformable_sampling.default, (value, sides, grid, weights))


def test_compiled_in_one_piece(inputs):
    compiled = torch.compile(deformable_sampling, fullgraph=True, backend="aot_eager")
    single = [x.float() for x in inputs]
    found = outputs_and_gradients(compiled, *single)
    for ours, theirs in zip(found, outputs_and_gradients(deformable_sampling, *single), strict=True):
        torch.testing.assert_close(ours, theirs)
