"""Work that is done again where memory did not suffice: with what is free given back, then on the CPU."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch

__all__ = ["is_out_of_memory", "retry_out_of_memory"]

Result = TypeVar("Result")
_CPU = torch.device("cpu")
# Of plain RuntimeErrors, which PyTorch raises where the CPU's memory, the driver's or a CUDA library's gives out.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
logger = logging.getLogger(__name__)


def retry_out_of_memory(work: Callable[[torch.device], Result], device: torch.device) -> Result:
    """The result of `work` on a device, after a second attempt there, or else on the CPU where the result then is.

    Raises:
        RuntimeError: memory does not suffice on the CPU either, or `work` failed for another reason.
    """
    for place in (device, device) if device == _CPU else (device, device, _CPU):
        try:
            return work(place)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        # Not while the exception is handled: its frames hold what is to be freed.
        _say(device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    raise RuntimeError(f"memory does not suffice; ask for smaller segmentations or for fewer tasks at once: {failure}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


@cache
def _say(device: torch.device) -> None:
    """Warns the first time: an evaluation would else say so for every image."""
    logger.warning("Out of memory on %s; trying again with what is free given back, then on the CPU.", device)
