"""Processes, logging, events, registries."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.utils import comm
    from possam.d2._runtime.utils.events import EventStorage, EventWriter, TensorboardXWriter, get_event_storage
    from possam.d2._runtime.utils.logger import setup_logger
    from possam.d2._runtime.utils.registry import Registry
else:
    from detectron2.utils import comm
    from detectron2.utils.events import EventStorage, EventWriter, TensorboardXWriter, get_event_storage
    from detectron2.utils.logger import setup_logger
    from detectron2.utils.registry import Registry

__all__ = [
    "EventStorage",
    "EventWriter",
    "Registry",
    "TensorboardXWriter",
    "comm",
    "get_event_storage",
    "setup_logger",
]
