"""Training loops, hooks, and what a training script does first."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.engine import (
        DefaultTrainer,
        HookBase,
        SimpleTrainer,
        TrainerBase,
        default_argument_parser,
        hooks,
    )
else:
    from detectron2.engine import (
        DefaultTrainer,
        HookBase,
        SimpleTrainer,
        TrainerBase,
        default_argument_parser,
        hooks,
    )

__all__ = [
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "default_argument_parser",
    "hooks",
]
