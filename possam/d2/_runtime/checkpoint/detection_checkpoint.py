"""The checkpointer for distributed runs."""

from typing import Any

from fvcore.common.checkpoint import Checkpointer
from torch import nn

from ..utils import comm
from ..utils.file_io import PathManager


class DetectionCheckpointer(Checkpointer):
    """fvcore's `Checkpointer`, which writes on rank 0 alone.

    Files hold ``{"model": state dict, …}`` or a bare state dict. Weights of Detectron2's and Detectron's model zoos
    (``.pkl``) and of pycls (``.pyth``), and matching by similar names, need Detectron2 itself.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, save_to_disk: Any = None, **checkpointables: Any):
        """
        Args:
            model: the model, bare or wrapped for distributed training.
            save_dir: folder to save to and to look for checkpoints in.
            save_to_disk: by default, whether this is rank 0.
            checkpointables: further objects with state_dict and load_state_dict, saved under their keywords.
        """
        super().__init__(
            model, save_dir, save_to_disk=comm.is_main_process() if save_to_disk is None else save_to_disk,
            **checkpointables,
        )
        self.path_manager = PathManager

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the model and the checkpointables; returns what else the file holds.

        Raises:
            ValueError: the file's format, or a query in the path, needs Detectron2.
        """
        name = str(path or "")
        if "?" in name or name.endswith((".pkl", ".pyth")):
            raise ValueError(f"'{name}' needs a conversion that only Detectron2 has: install it, or give a .pth file")
        return super().load(path, *args, **kwargs)

    def _load_file(self, f: str) -> dict[str, Any]:
        loaded = super()._load_file(f)
        return loaded if "model" in loaded else {"model": loaded}

    def _load_model(self, checkpoint: Any) -> Any:
        incompatible = super()._load_model(checkpoint)
        buffers = dict(self.model.named_buffers(recurse=False))
        # Old files lack the pixel statistics, which come from the config anyway.
        expected = [key for key in ("pixel_mean", "pixel_std") if key in buffers]
        incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key not in expected]
        return incompatible
