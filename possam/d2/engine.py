"""Training loops, hooks, launching, and what a training script does first."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.engine import (
        AMPTrainer,
        DefaultTrainer,
        HookBase,
        SimpleTrainer,
        TrainerBase,
        create_ddp_model,
        default_argument_parser,
        default_setup,
        default_writers,
        hooks,
        launch,
    )
else:
    from detectron2.engine import (
        AMPTrainer,
        DefaultTrainer,
        HookBase,
        SimpleTrainer,
        TrainerBase,
        create_ddp_model,
        default_argument_parser,
        default_setup,
        default_writers,
        hooks,
        launch,
    )

__all__ = [
    "AMPTrainer",
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "hooks",
    "launch",
]
