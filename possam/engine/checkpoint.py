"""Checkpoints of the trained parameters; whatever does not fit the model exactly is an error."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from possam.d2.checkpoint import DetectionCheckpointer


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, strict: missing, unexpected or wrong-shaped parameters raise instead of being logged.

    The frozen encoders are not in the checkpoint; they come from their own files.
    """

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load `path`; an empty path loads nothing.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the parameters are not those of the model.
        """
        if path and "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"No checkpoint at {path}. Check MODEL.WEIGHTS, or leave it empty to start anew.")
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = super()._load_file(filename)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
            raise ValueError(f"{filename} is not a checkpoint ({error!r}); check MODEL.WEIGHTS.") from error
        return content

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        problems = [
            f"{key} has shape {tuple(found)}, but the model's is {tuple(expected)}"
            for key, found, expected in incompatible.incorrect_shapes
        ]
        wrong_shape = {key for key, _, _ in incompatible.incorrect_shapes}
        problems += [f"{key} is missing" for key in incompatible.missing_keys if key not in wrong_shape]
        problems += [f"{key} is not part of the model" for key in incompatible.unexpected_keys]
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ValueError(
                f"The checkpoint does not fit the model: {shown}. Use the configuration it was trained with "
                "(config.yaml beside it)."
            )
