"""What this project's training does beside its steps."""

from __future__ import annotations

import logging

from possam.d2.engine import HookBase
from possam.engine.resume import ResumableLoader, seed_step

__all__ = ["ExactResume"]

logger = logging.getLogger(__name__)


class ExactResume(HookBase):
    """Lets an interrupted run go on as if it had not been: same images, same random numbers.

    Every step is seeded by the run's seed and the step, so that no generator's state has to be kept, and an evaluation
    between two steps changes nothing. Checkpoints keep the place in the data. Register it first.
    """

    def __init__(self, loader: ResumableLoader) -> None:
        self._loader = loader
        self._restored = False

    def before_train(self) -> None:
        start = self.trainer.start_iter
        if start and not self._restored:
            batch = self._loader.order.batch_size * self._loader.order.world_size
            self._loader.skip(start * batch)
            logger.warning("The checkpoint does not keep its place in the data: it is taken to be %d x %d images in.",
                           start, batch)  # fmt: skip

    def before_step(self) -> None:
        seed_step(self._loader.seed, self.trainer.iter)

    def state_dict(self) -> dict[str, int]:
        return self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._loader.load_state_dict(state_dict)
        self._restored = True
