"""Start a run in one process, in several of its own, or as one of the processes `torchrun` has started."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from possam.d2.engine import launch
from possam.d2.utils import comm


def run(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """Call `main(args)` in every process of the run; gloo joins them on the CPU, NCCL on CUDA devices.

    Under `torchrun` (RANK and WORLD_SIZE are set) the process joins the group described by the environment and
    `--num-gpus`, `--num-machines` and `--dist-url` are not read. Otherwise Detectron2's `launch` starts
    `--num-gpus` processes on each of `--num-machines` machines.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        return main(args)
    finally:
        dist.destroy_process_group()
