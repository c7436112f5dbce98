"""fvcore's schedules, which are functions of progress in [0, 1], as PyTorch schedulers."""

from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["LRMultiplier", "LRScheduler", "WarmupParamScheduler"]


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule with a warm-up before it."""

    def __init__(
        self, scheduler: ParamScheduler, warmup_factor: float, warmup_length: float, warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        """
        Args:
            scheduler: what follows the warm-up.
            warmup_factor: the warm-up begins at this share of the schedule's first value.
            warmup_length: length of the warm-up as a share of training.
            warmup_method: "linear" rises to where the schedule goes on, "constant" stays.
            rescale_interval: squeeze the whole schedule into the time after the warm-up, rather than cut its begin.
        """
        start = warmup_factor * scheduler(0.0)
        goal = scheduler(0.0 if rescale_interval else warmup_length)
        if warmup_method == "linear":
            warmup: ParamScheduler = LinearParamScheduler(start, goal)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(start)
        else:
            raise ValueError(f"warmup_method is 'linear' or 'constant', but it is '{warmup_method}'")
        after = "rescaled" if rescale_interval else "fixed"
        super().__init__(
            [warmup, scheduler], interval_scaling=["rescaled", after], lengths=[warmup_length, 1 - warmup_length]
        )


class LRMultiplier(LRScheduler):
    """Learning rate = the rate given to the optimizer × a schedule of iteration / ``max_iter``."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1
    ):
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be a schedule of fvcore, but {type(multiplier).__name__} came")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        # The schedule itself is built from the config, so that a resumed run can follow a changed one.
        return {name: getattr(self, name) for name in ("base_lrs", "last_epoch")}

    def get_lr(self) -> list[Any]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [rate * factor for rate in self.base_lrs]
