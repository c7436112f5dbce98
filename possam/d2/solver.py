"""Optimizers and learning rates."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.solver.build import (
        build_lr_scheduler,
        build_optimizer,
        get_default_optimizer_params,
        maybe_add_gradient_clipping,
    )
else:
    from detectron2.solver.build import (
        build_lr_scheduler,
        build_optimizer,
        get_default_optimizer_params,
        maybe_add_gradient_clipping,
    )

__all__ = ["build_lr_scheduler", "build_optimizer", "get_default_optimizer_params", "maybe_add_gradient_clipping"]
