"""The standard training script in parts: arguments and trainer."""

import argparse
import os
import sys
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from ..solver import build_lr_scheduler
from ..utils import comm
from ..utils.events import EventWriter
from . import hooks
from .train_loop import SimpleTrainer, TrainerBase

__all__ = ["DefaultTrainer", "default_argument_parser"]


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The options that training scripts share; what is left on the command line overrides the config."""
    script = sys.argv[0]
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"Examples:\n"
        f"  one machine:     {script} --config-file cfg.yaml --num-gpus 8 SOLVER.BASE_LR 0.001\n"
        f"  two machines:    {script} --num-machines 2 --machine-rank 0 (and 1 there) --dist-url tcp://HOST:PORT …",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="config to start from")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs (processes) on each machine")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # Different users of a machine should not meet on one port.
    user = os.getuid() if sys.platform != "win32" else 1
    url = f"tcp://127.0.0.1:{49152 + hash(user) % 16384}"
    parser.add_argument("--dist-url", default=url, help="where the processes meet")
    parser.add_argument("opts", nargs=argparse.REMAINDER, default=None, help="KEY VALUE … that override the config")
    return parser


def _of_inner_trainer(name: str) -> Any:
    return property(lambda self: getattr(self._trainer, name), lambda self, value: setattr(self._trainer, name, value))


class DefaultTrainer(TrainerBase):
    """Training as a config describes it: learning rate, checkpoints, evaluation, writers.

    A subclass's constructor sets ``_trainer``, the `SimpleTrainer` that takes the steps, and ``cfg``, ``scheduler``,
    ``checkpointer``, ``start_iter`` and ``max_iter``, and registers the hooks.
    """

    _trainer: SimpleTrainer
    model = _of_inner_trainer("model")
    optimizer = _of_inner_trainer("optimizer")
    data_loader = _of_inner_trainer("data_loader")

    cfg: Any
    checkpointer: Checkpointer
    scheduler: Any

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR if ``resume`` and there is one, else load MODEL.WEIGHTS."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # The checkpoint holds the last iteration done.
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Timer, learning rate, checkpoints, evaluation, writers, in this order."""
        cfg = self.cfg
        if cfg.TEST.PRECISE_BN.ENABLED or len(cfg.TEST.EXPECTED_RESULTS):
            raise ValueError("TEST.PRECISE_BN and TEST.EXPECTED_RESULTS need Detectron2")

        result: list[hooks.HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        # Saved before the evaluation, so that a failure there costs nothing.
        if comm.is_main_process():
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, lambda: self.test(self.cfg, self.model)))
        if comm.is_main_process():
            # Last, to write what the others recorded.
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of the event storage."""
        raise NotImplementedError

    def train(self) -> None:  # type: ignore[override]
        """Train from ``start_iter`` to ``max_iter``."""
        super().train(self.start_iter, self.max_iter)

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_lr_scheduler(cls, cfg: Any, optimizer: torch.optim.Optimizer) -> Any:
        """The schedule of the learning rate."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def test(cls, cfg: Any, model: nn.Module) -> Any:
        """Evaluate the model: a nested dict of numbers."""
        raise NotImplementedError
