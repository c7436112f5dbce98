"""Random state of the process."""

import os
import random
import time

import numpy as np
import torch

from .logger import runtime_logger


def seed_all_rng(seed: int | None = None) -> None:
    """Seed Python, NumPy and PyTorch (all devices) with one number; ``None`` draws a fresh one."""
    if seed is None:
        noise = int.from_bytes(os.urandom(3), "little")
        seed = (os.getpid() * 1000 + time.time_ns() // 1000 % 10**6 + noise) % 2**31
        runtime_logger(__name__).info(f"No seed was given, so this one was drawn: {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)
    # Only child processes read this one: the hash seed of a running interpreter is fixed.
    os.environ["PYTHONHASHSEED"] = str(seed)
