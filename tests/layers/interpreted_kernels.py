"""Runs the Triton kernels in Triton's interpreter, on a CPU, against the plain way: a JSON line of errors by case.

To be run with TRITON_INTERPRET=1, which must be set before Triton is imported.
"""

import json

import torch

from possam.layers import deformable_attention_triton, deformable_sampling

CASES = {
    "odd sizes": dict(sizes=[(1, 1), (3, 5), (7, 4)], batch=2, queries=70, heads=3, depth=8, points=3),
    "a depth that is no power of two": dict(sizes=[(4, 6), (2, 3)], batch=1, queries=5, heads=2, depth=20, points=1),
    "one channel": dict(sizes=[(5, 2)], batch=3, queries=9, heads=1, depth=1, points=4),
    "bfloat16": dict(sizes=[(3, 4), (6, 8)], batch=1, queries=33, heads=2, depth=32, points=2, dtype=torch.bfloat16),
    "float16": dict(sizes=[(3, 4), (6, 8)], batch=1, queries=33, heads=2, depth=32, points=2, dtype=torch.float16),
    "float64": dict(sizes=[(3, 4), (2, 2)], batch=2, queries=4, heads=2, depth=4, points=2, dtype=torch.float64),
}


def errors(*, sizes, batch, queries, heads, depth, points, dtype=torch.float32):
    """Largest errors of the output and of the gradients of value, grid and weights, relative to the largest number."""
    torch.manual_seed(0)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    value = torch.randn(batch, sum(height * width for height, width in sizes), heads, depth).to(dtype)
    grid = torch.rand(batch, queries, heads, len(sizes), points, 2, dtype=exact) * 3 - 1.5  # a third is outside
    weights = torch.rand(batch, queries, heads, len(sizes), points, dtype=exact)
    gradient = torch.randn(batch, queries, heads * depth).to(dtype)
    leaves = [value.to(exact).requires_grad_(), grid.clone().requires_grad_(), weights.clone().requires_grad_()]
    output = deformable_sampling(leaves[0], sizes, leaves[1], leaves[2], plain=True)
    expected = [output, *torch.autograd.grad(output, leaves, gradient.to(exact))]
    # not contiguous, as after a transposition
    value, weights = value.transpose(1, 2).contiguous().transpose(1, 2), weights.mT.contiguous().mT
    found = [
        deformable_attention_triton.sample(value, sizes, grid, weights),
        *deformable_attention_triton.sample_backward(gradient, value, sizes, grid, weights),
    ]
    assert [x.dtype for x in found] == [dtype, dtype, exact, exact]
    return [
        ((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in zip(found, expected, strict=True)
    ]


if __name__ == "__main__":
    print(json.dumps({name: errors(**case) for name, case in CASES.items()}))
