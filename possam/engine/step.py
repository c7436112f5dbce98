"""One training step: losses that all processes agree are finite, their gradient, and an update that is finite too."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import reduce
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from possam.d2.engine import SimpleTrainer
from possam.d2.utils import comm
from possam.engine.memory import memory_advice

__all__ = ["TrainingStep"]

logger = logging.getLogger(__name__)

PATIENCE = 3  # steps in a row that cannot be taken


class _NotFinite(Exception):
    """Why a step cannot be taken; raised in all processes or in none."""


class TrainingStep(SimpleTrainer):
    """Detectron2's training step with gradient accumulation, mixed precision and a check that all processes share.

    Before the last backward pass the processes agree, in one all-reduce, on whether all losses are finite: a process
    that went on alone would wait in the gradient's all-reduce for one that has stopped. After it the gradient is the
    same in all of them, so that each can check it by itself. Neither the weights nor the optimizer's state change in a
    step that is not finite.

    Forward passes that share a step are marked so where the model has a method for it, `accumulating`, as the systems:
    then the mean of their losses is the loss of the whole batch, however its segments are spread over the passes.

    In fp16 a gradient that is not finite is the scaler's ordinary business, which leaves the step out and lowers its
    scale; only where the scale has come down to 1 is it not the scale's fault. Losses are never scaled, so that they
    must be finite in any precision.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        accumulate: int = 1,
        clip: float = math.inf,
        precision: torch.dtype | None = None,
        skip: bool = False,
    ) -> None:
        """
        Args:
            model: from a list of inputs to a dict of scalar losses, to be added; wrapped in DDP in several processes.
            loader: gives a step's inputs in this process, a multiple of `accumulate`.
            accumulate: forward passes that these are shared out among, in their order; losses are averaged over them.
            clip: the largest norm of the whole gradient; longer ones are shortened to it.
            precision: of autocast: torch.bfloat16, torch.float16 (with a `GradScaler`), or None for none.
            skip: leave out steps that are not finite, with a warning, until the third in a row; else stop at the first.
        """
        super().__init__(model, loader, optimizer)
        self.accumulate, self.clip, self.precision, self.skip = accumulate, clip, precision, skip
        self.device = next(model.parameters()).device
        # bf16 has fp32's range: its gradients need no scaling.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self.left_out = 0  # steps in a row
        self._batches: Iterator[list[dict[str, Any]]] | None = None

    def run_step(self) -> None:
        """Take one step.

        Raises:
            FloatingPointError: losses or gradient are not finite, in whatever process; all raise it, before the update.
            MemoryError: this process has not enough.
        """
        start = time.perf_counter()
        if self._batches is None:  # not before the first step: starting the loader starts its processes
            self._batches = iter(self.data_loader)
        batch = next(self._batches)
        waited = time.perf_counter() - start
        share = len(batch) // self.accumulate
        self.optimizer.zero_grad()
        with memory_advice(share):
            try:
                losses = self._differentiate([batch[at : at + share] for at in range(0, len(batch), share)])
                self.after_backward()
                self.write_metrics(losses, waited, self.iter)
                self._update()
                self.left_out = 0
            except _NotFinite as problem:
                self._leave_out(str(problem))

    def _differentiate(self, shares: list[list[dict[str, Any]]]) -> dict[str, Tensor]:
        """Accumulate the gradient of the mean loss in the parameters; return the mean losses, on the CPU."""
        bare = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        accumulating = getattr(bare, "accumulating", None) if len(shares) > 1 else None
        with accumulating(list(chain(*shares))) if accumulating else nullcontext():
            return self._accumulate(shares)

    def _accumulate(self, shares: list[list[dict[str, Any]]]) -> dict[str, Tensor]:
        seen: list[dict[str, Tensor]] = []
        problems: list[str] = []
        for number, share in enumerate(shares, start=1):
            try:
                losses = self._losses_of(share)
                seen.append({name: loss.detach() for name, loss in losses.items()})
            except FloatingPointError as error:
                problems.append(str(error))  # and go on: the other processes wait for this one in their losses
            if number == len(shares):
                means = self._agree(seen, problems)
                if isinstance(self.model, DistributedDataParallel):
                    # DDP does so in the forward pass, whence it could not be undone if no backward pass followed.
                    self.model.reducer.prepare_for_backward([])
            if not problems:
                self.scaler.scale(reduce(torch.add, losses.values()) / len(shares)).backward()
        return means

    def _losses_of(self, share: list[dict[str, Any]]) -> dict[str, Tensor]:
        apart = self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()
        with apart, torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None):
            return self.model(share)

    def _agree(self, seen: list[dict[str, Tensor]], problems: list[str]) -> dict[str, Tensor]:
        """This process's mean losses, on the CPU, if those of all processes are finite. _NotFinite otherwise."""
        names: list[str] = []
        means = torch.zeros(0, device=self.device)
        if not problems:
            names = list(seen[0])
            means = torch.stack([torch.stack([*losses.values()]) for losses in seen]).mean(0)
        wrong = (~means.isfinite()).any() | bool(problems)
        if comm.get_world_size() > 1:
            wrong = wrong.float()
            torch.distributed.all_reduce(wrong, op=torch.distributed.ReduceOp.MAX)
        by_name = dict(zip(names, means.cpu(), strict=True))
        if wrong.item():
            bad = ", ".join(name for name, mean in by_name.items() if not mean.isfinite())
            told = comm.all_gather("; ".join(problems) or (f"{bad} not finite" if bad else ""))
            raise _NotFinite("; ".join(f"in process {rank} {text}" for rank, text in enumerate(told) if text))
        return by_name

    def _update(self) -> None:
        """Shorten the gradient and let the optimizer take its step; _NotFinite, before that, where there is none."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(parameters, self.clip)
        # The scale of a scaler that is not in use is 1.
        wrong = not norm.isfinite() and self.scaler.get_scale() <= 1
        if not wrong:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if wrong:
            raise _NotFinite("the gradient is not finite, though the losses are")

    def _leave_out(self, problem: str) -> None:
        self.left_out += 1
        if self.skip and self.left_out < PATIENCE:
            logger.warning("Step %d is left out, its update is not made: %s.", self.iter + 1, problem)
            return
        row = f", the last of {self.left_out} in a row" if self.left_out > 1 else ""
        fix = "" if self.skip else ", or leave single steps out with SOLVER.NON_FINITE skip"
        raise FloatingPointError(
            f"Training stops before the update of step {self.iter + 1}{row}: {problem}. Go on from an earlier "
            f"checkpoint with a lower SOLVER.BASE_LR or without SOLVER.AMP.ENABLED{fix}."
        )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.scaler.state_dict(), "left_out": self.left_out}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if scale := state_dict.get("grad_scaler"):  # none, if it was trained in another precision
            self.scaler.load_state_dict(scale)
        self.left_out = state_dict.get("left_out", 0)
