"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled for GPUs up to the binary."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    # gradients of shared values are added up, not written over each other
    assert ("red.global" in compiled.asm["ptx"]) == (kernel == "_backward")
