"""One process joined by NCCL (gloo on a CPU) as torchrun starts it: a training step in DDP against one without."""

from __future__ import annotations

import argparse
import os
import socket
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import batch_of, build, train_step
from possam.d2.utils import EventStorage, comm
from possam.engine import run as launch
from possam.engine.trainer import _LEAVE_BUFFERS


def run(bench: Bench) -> None:
    bench.step("a training step", partial(_in_group, bench))


def _in_group(bench: Bench) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    torchrun = {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    before = dict(os.environ)
    os.environ.update(torchrun)
    try:
        found: dict[str, Any] = launch(lambda _: _compare(bench), argparse.Namespace())
        return found
    finally:
        os.environ.clear()
        os.environ.update(before)


def _compare(bench: Bench) -> dict[str, Any]:
    cfg, model = build(bench, "PosSAM-B")
    batch = batch_of(bench, model, 1)
    backend = torch.distributed.get_backend()
    comm.synchronize()
    gathered = comm.all_gather("here")
    plain = _gradient(cfg, model, model, batch)
    wrapped = DistributedDataParallel(
        model, device_ids=[0] if bench.cuda else None, gradient_as_bucket_view=True, **_LEAVE_BUFFERS
    )
    joined = _gradient(cfg, model, wrapped, batch)
    difference = ((joined - plain).norm() / plain.norm()).item()
    return {"backend": backend, "gathered": gathered, "error": difference, "tolerance": 1e-2}


def _gradient(cfg: Any, model: nn.Module, wrapped: nn.Module, batch: list[dict[str, Any]]) -> Tensor:
    """All gradients of one step whose update changes nothing."""
    cfg = cfg.clone()
    cfg.SOLVER.BASE_LR = 0.0
    training = train_step(cfg, wrapped, batch, torch.bfloat16)  # type: ignore[arg-type]
    torch.manual_seed(1)
    with EventStorage():
        training.run_step()
    trained = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([gradient.flatten().clone() for gradient in trained if gradient is not None])
