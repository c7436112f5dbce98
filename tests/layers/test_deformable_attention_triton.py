"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled for GPUs up to the binary.

Where there is a GPU, they run on it too.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from possam.layers import deformable_attention_sampling, deformable_sampling

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[2]
TOLERANCES = {"bfloat16": 2**-7, "float16": 2**-10, "float64": 1e-12}


@pytest.fixture(scope="module")
def errors():
    """Errors of output and gradients by case, from a process that interprets kernels."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("interpreted_kernels.py")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_kernels_equal_the_plain_way(errors):
    assert len(errors) == 6
    for case, (output, to_value, to_grid, to_weights) in errors.items():
        # what leaves in the dtype of the values is rounded to it, once
        assert max(output, to_value) < TOLERANCES.get(case, 1e-5), case
        assert max(to_grid, to_weights) < 1e-5, case


@pytest.mark.parametrize("kernel", ["_forward", "_backward"])
@pytest.mark.parametrize("value", ["bf16", "fp32"])
def test_kernels_compile_for_gpus(kernel, value, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    if "constexprs" not in inspect.signature(ASTSource).parameters:
        pytest.skip("this Triton, before 3.3, takes other arguments here")

    from possam.layers import deformable_attention_triton

    function = getattr(deformable_attention_triton, kernel)
    constants = dict(heads=8, depth=32, levels=3, points=4, block=32, channels=32)
    types = {name: f"*{value}" for name in ("value", "gradient", "output")}
    types |= {"sizes": "*i32", "positions": "i32", "queries": "i32"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "*fp32") for name in function.arg_names
    }
    compiled = compile(ASTSource(function, signature=signature, constexprs=constants), target=GPUTarget("cuda", 80, 32))
    assert compiled.asm["cubin"]
    # gradients of shared values are added up, not written over each other; PTX has two instructions for that, with
    # modifiers that differ between versions of Triton
    assert bool(re.search(r"\b(atom|red)(\.[\w:]+)*\.add\b", compiled.asm["ptx"])) == (kernel == "_backward")


class Driver:
    """Of Triton on a machine with a GPU, where it starts or not."""

    def __init__(self, error):
        self.error = error

    @property
    def active(self):
        if self.error:
            raise self.error
        return self


@pytest.mark.parametrize(
    "error", [None, RuntimeError("Failed to find C compiler."), subprocess.CalledProcessError(1, "gcc")]
)
def test_where_triton_does_not_start_the_plain_way_is_taken(error, monkeypatch, caplog):
    import triton

    plain, calls = deformable_attention_sampling._sample_by_grid, []
    monkeypatch.setattr(deformable_attention_sampling, "_sample_by_grid", lambda *x: calls.append(x) or plain(*x))
    monkeypatch.setattr(triton.runtime, "driver", Driver(error))
    deformable_attention_sampling._triton_starts.cache_clear()
    if error and not torch.cuda.is_available() and torch.__version__.startswith("2.6."):
        pytest.skip("PyTorch 2.6 asks the driver where a fake GPU makes a number a tensor")
    with FakeTensorMode(), torch.device("cuda"):
        value, grid, weights = torch.empty(1, 6, 2, 4), torch.empty(1, 5, 2, 1, 3, 2), torch.empty(1, 5, 2, 1, 3)
        for _ in range(2):
            assert deformable_sampling(value, [(2, 3)], grid, weights).shape == (1, 5, 8)
    deformable_attention_sampling._triton_starts.cache_clear()  # as a new process again
    assert len(calls) == (2 if error else 0)
    assert len(caplog.records) == (1 if error else 0)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu(dtype):
    torch.manual_seed(0)
    sizes = [(5, 7), (10, 14)]
    value = torch.randn(2, 175, 8, 32, device="cuda").to(dtype).requires_grad_()
    grid = (torch.rand(2, 175, 8, 2, 4, 2, device="cuda") * 3 - 1.5).requires_grad_()
    weights = torch.rand(2, 175, 8, 2, 4, device="cuda", requires_grad=True)
    results = []
    for plain in (False, True):
        output = deformable_sampling(value, sizes, grid, weights, plain=plain)
        results.append([output, *torch.autograd.grad(output.float().square().sum(), (value, grid, weights))])
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
