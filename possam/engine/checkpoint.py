"""Checkpoints of the trained parameters; whatever does not fit the model exactly is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from possam.d2.checkpoint import DetectionCheckpointer
from possam.models.state import describe_frozen, load_checkpoint, read_checkpoint


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, strict and safe: what does not fit raises instead of being logged, and no code runs.

    Files hold the trained parameters alone, and by name and sha256 of the weights which frozen encoders they were
    trained over; the encoders themselves come from their own files.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth: the model, the checkpointables, the frozen encoders' description, and `kwargs`."""
        if self.save_dir and self.save_to_disk:  # else the fingerprints, which take seconds, would be for nothing
            super().save(name, frozen=describe_frozen(self.model), **kwargs)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load `path`, a .pth or .safetensors file or its URL; an empty path loads nothing.

        Returns:
            What else the file holds, such as the iteration.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no checkpoint, of another model or over other frozen encoders; the model stays as it was.
        """
        if path and ("?" in path or path.endswith((".pkl", ".pyth"))):
            # Detectron2 unpickles such files, code and all, and takes wishes from a query.
            raise ValueError(f"{path} is not the name of a checkpoint, which is a .pth or .safetensors file.")
        if path and "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"No checkpoint at {path}. Check MODEL.WEIGHTS, or leave it empty to start anew.")
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None  # Detectron2 would refuse to load again after an error

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            content = read_checkpoint(filename)
        except ValueError as error:
            raise ValueError(f"{error} Check MODEL.WEIGHTS.") from error
        return {**content, "source": filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        load_checkpoint(self.model, checkpoint, f"The checkpoint {checkpoint.pop('source')}")
