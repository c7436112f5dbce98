"""What to do when a training step needs more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from possam.inference.out_of_memory import is_out_of_memory

__all__ = ["memory_advice"]


@contextmanager
def memory_advice(images: int) -> Iterator[None]:
    """Let whatever runs out of memory inside say how to need less; `images` is how many one forward pass has.

    Raises:
        MemoryError: memory gave out; one line with the settings that need less.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or "no memory").strip().splitlines()[0]
        fewer = f"fewer than {images} images a forward pass (raise SOLVER.GRAD_ACCUM_STEPS or lower IMS_PER_BATCH), "
        raise MemoryError(
            f"Training ran out of memory ({reason:.200}). Try {fewer if images > 1 else ''}a smaller INPUT.IMAGE_SIZE, "
            "fewer MODEL.MASK_FORMER.TRAIN_NUM_POINTS, SOLVER.AMP.ENABLED True on CUDA, or smaller encoders."
        ) from error
