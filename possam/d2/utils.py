"""Processes, logging, events, registries."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.utils import comm
    from possam.d2._runtime.utils.collect_env import collect_env_info
    from possam.d2._runtime.utils.env import seed_all_rng
    from possam.d2._runtime.utils.events import EventStorage, EventWriter, TensorboardXWriter, get_event_storage
    from possam.d2._runtime.utils.logger import setup_logger
else:
    from detectron2.utils import comm
    from detectron2.utils.collect_env import collect_env_info
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import EventStorage, EventWriter, TensorboardXWriter, get_event_storage
    from detectron2.utils.logger import setup_logger

__all__ = [
    "EventStorage",
    "EventWriter",
    "TensorboardXWriter",
    "collect_env_info",
    "comm",
    "get_event_storage",
    "seed_all_rng",
    "setup_logger",
]
