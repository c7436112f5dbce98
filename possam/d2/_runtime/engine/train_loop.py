"""The training loop, its hooks, and what a step starts from."""

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..utils import comm
from ..utils.events import EventStorage, get_event_storage
from ..utils.logger import runtime_logger

__all__ = ["HookBase", "SimpleTrainer", "TrainerBase"]

logger = runtime_logger(__name__)


class HookBase:
    """Something to do at fixed points of training; ``self.trainer`` is the trainer it is registered with."""

    trainer: Any = None

    def before_train(self) -> None:
        """Before the first step."""

    def after_train(self) -> None:
        """After the last step, or after an error."""

    def before_step(self) -> None:
        """Before each step."""

    def after_backward(self) -> None:
        """Once a step's gradients are there."""

    def after_step(self) -> None:
        """After each step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep; a hook that returns something also has load_state_dict."""
        return {}


class TrainerBase:
    """A loop over iterations that calls hooks; subclasses say what a step is in `run_step`.

    Attributes: ``iter`` is the current iteration, from ``start_iter`` to ``max_iter`` - 1 (``max_iter`` once all
    are done); ``storage`` is the EventStorage open during training.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = self.start_iter = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: list[HookBase | None]) -> None:
        """Add hooks, called in this order; None is skipped."""
        for hook in hooks:
            if hook is None:
                continue
            assert isinstance(hook, HookBase), f"{type(hook)} is not a hook"
            # Weak, so that trainer and hook do not keep each other alive.
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter`` to ``max_iter`` - 1; hooks finish even after an error."""
        logger.info(f"Training from iteration {start_iter} to {max_iter}")
        self.start_iter, self.max_iter, self.iter = start_iter, max_iter, start_iter
        self.storage = EventStorage(start_iter)
        with self.storage:
            try:
                self._loop()
            except Exception:
                logger.exception("Training failed:")
                raise
            finally:
                self.after_train()

    def _loop(self) -> None:
        self.before_train()
        while self.iter < self.max_iter:
            self.before_step()
            self.run_step()
            self.after_step()
            # Once more after the last step: by this, hooks tell a finished run from an interrupted one.
            self.iter += 1

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The iteration, and the state of the first hook of each class that has one."""
        hooks: dict[str, Any] = {}
        for hook in self._hooks:
            name = type(hook).__qualname__
            if name not in hooks and (state := hook.state_dict()):
                hooks[name] = state
        return {"iteration": self.iter, **({"hooks": hooks} if hooks else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave; hooks that are not registered now are reported."""
        self.iter = state_dict["iteration"]
        registered: dict[str, Any] = {}
        for hook in self._hooks:
            registered.setdefault(type(hook).__qualname__, hook)
        for name, state in state_dict.get("hooks", {}).items():
            if name in registered:
                registered[name].load_state_dict(state)
            else:
                logger.warning(f"The checkpoint holds the state of a hook '{name}', which this run does not have")


class SimpleTrainer(TrainerBase):
    """One optimizer and one loader; subclasses say in `run_step` what a step is."""

    def __init__(self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer):
        """
        Args:
            model: set to training mode here.
            data_loader: an iterable of batches.
            optimizer: over the model's parameters.
        """
        super().__init__()
        self.model, self.data_loader, self.optimizer = model.train(), data_loader, optimizer

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = "") -> None:
        """Put losses, averaged over processes, and the longest wait for data into the event storage.

        Raises:
            FloatingPointError: the total loss is infinite or NaN.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        mine = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((data_time, mine))
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", max(waited for waited, _ in gathered), cur_iter=cur_iter)
        means = {name: float(np.mean([losses[name] for _, losses in gathered])) for name in gathered[0][1]}
        total = sum(means.values())
        if not np.isfinite(total):
            raise FloatingPointError(f"the loss is not finite at iteration {cur_iter}: {means}")
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            for name, mean in means.items():
                storage.put_scalar(name, mean, cur_iter=cur_iter)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
