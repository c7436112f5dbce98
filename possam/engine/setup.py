"""What a run does before it loads anything: logs, seed, and later the record of its settings."""

from __future__ import annotations

import argparse
import logging
from itertools import count
from pathlib import Path

import torch

from possam.d2.config import CfgNode
from possam.d2.utils import collect_env_info, comm, seed_all_rng, setup_logger
from possam.utils.files import write_atomically

__all__ = ["keep_config", "set_up"]

logger = logging.getLogger(__name__)

_NAME = "config.yaml"


def set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Start the logs, record environment, command line and settings in them, and seed this process.

    This is Detectron2's `default_setup`, except that no config.yaml is written: `keep_config` does so when it is known
    that the run can start.

    Args:
        cfg: the settings; OUTPUT_DIR gets log.txt.
        args: the command line, of which `eval_only` is read.
    """
    rank = comm.get_rank()
    file = str(Path(cfg.OUTPUT_DIR) / "log.txt")  # a folder called *.log or *.txt would be taken for a file
    for name in ("fvcore", "detectron2", "possam"):
        setup_logger(file, distributed_rank=rank, name=name)
    logger.info("Process %d of %d. Environment:\n%s", rank, comm.get_world_size(), collect_env_info())
    logger.info("Command line: %s", args)
    if comm.is_main_process():
        logger.info("Settings:\n%s", cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)  # ranks differ, or they would augment alike
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if precision := cfg.get("FLOAT32_PRECISION", ""):
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def keep_config(cfg: CfgNode, *, eval_only: bool) -> None:
    """Write the settings, on the main process: of a training to OUTPUT_DIR/config.yaml, of an evaluation alone to
    OUTPUT_DIR/evaluation/config.yaml.

    Other settings that an earlier training has left there are kept as config.earlier.yaml, config.earlier.2.yaml …
    """
    if not comm.is_main_process():
        return
    content = cfg.dump().encode()
    path = Path(cfg.OUTPUT_DIR) / "evaluation" / _NAME if eval_only else Path(cfg.OUTPUT_DIR) / _NAME
    if not eval_only and path.is_file() and (earlier := path.read_bytes()) != content:
        names = (f"config.earlier{f'.{number}' if number > 1 else ''}.yaml" for number in count(1))
        kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        write_atomically(kept, lambda file: file.write(earlier))
        logger.warning("The settings are not those of the earlier run in %s, which are kept in %s.", path.parent, kept)
    write_atomically(path, lambda file: file.write(content))
