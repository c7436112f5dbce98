"""The compatibility layer to Detectron2.

Everything of Detectron2 that this project uses is imported from here: ``from possam.d2.structures import Instances``.
These modules give Detectron2's own classes, or, on machines on which it is not installed, a built-in subset: the names
that this project uses, with the same behavior. A call that works with the subset works with Detectron2.
The environment variable ``POSSAM_D2`` chooses, once per process:

- ``auto`` (default): Detectron2 if it is installed, else the subset;
- ``detectron2``: Detectron2, or an ImportError;
- ``builtin``: the subset, even where Detectron2 is installed.

An installed Detectron2 that cannot be imported is an error, never a reason to fall back.
"""

import importlib
import importlib.util
import logging
import os

__all__ = ["BACKEND"]

_CHOICES = ("auto", "detectron2", "builtin")
_INSTALL_PAGE = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"


def _choose(wish: str) -> str:
    if wish not in _CHOICES:
        raise ValueError(
            f"POSSAM_D2 must be one of {', '.join(_CHOICES)}, but it is '{wish}'; unset the variable for auto."
        )
    if wish == "builtin":
        return wish
    if importlib.util.find_spec("detectron2") is None:
        if wish == "auto":
            return "builtin"
        raise ImportError(
            f"POSSAM_D2=detectron2, but Detectron2 is not installed. Install it as {_INSTALL_PAGE} says, "
            "or use the built-in subset with POSSAM_D2=builtin.",
            name="detectron2",
        )
    try:
        # It draws in the compiled operators, on which a broken installation fails.
        importlib.import_module("detectron2.engine")
    except Exception as error:
        raise ImportError(
            f"Detectron2 is installed but cannot be imported ({type(error).__name__}: {error}). Repair it as "
            f"{_INSTALL_PAGE} says, or use the built-in subset with POSSAM_D2=builtin.",
            name="detectron2",
        ) from error
    return "detectron2"


BACKEND: str = _choose(os.environ.get("POSSAM_D2") or "auto")
"""The implementation that this process uses: "detectron2" or "builtin"."""

logging.getLogger(__name__).info("Detectron2 backend: %s", BACKEND)
