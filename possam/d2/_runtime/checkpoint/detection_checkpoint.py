"""The checkpointer for distributed runs."""

import os
from typing import Any

import torch.distributed as dist
from fvcore.common.checkpoint import Checkpointer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..utils import comm
from ..utils.file_io import PathManager
from ..utils.logger import runtime_logger

__all__ = ["DetectionCheckpointer"]

logger = runtime_logger(__name__)


class DetectionCheckpointer(Checkpointer):
    """fvcore's `Checkpointer`, which writes on rank 0 alone and reads a file that perhaps only rank 0 can see.

    Files hold ``{"model": state dict, …}`` or a bare state dict. Weights of Detectron2's and Detectron's model zoos
    (``.pkl``) and of pycls (``.pyth``), and matching by similar names, need Detectron2 itself.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ):
        """
        Args:
            model: the model, bare or wrapped for distributed training.
            save_dir: folder to save to and to look for checkpoints in.
            save_to_disk: by default, whether this is rank 0.
            checkpointables: further objects with state_dict and load_state_dict, saved under their keywords.
        """
        super().__init__(
            model,
            save_dir,
            save_to_disk=comm.is_main_process() if save_to_disk is None else save_to_disk,
            **checkpointables,
        )
        self.path_manager = PathManager
        self._distributed = isinstance(model, DistributedDataParallel)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the model and the checkpointables; returns what else the file holds.

        Raises:
            ValueError: the file's format, or a query in the path, needs Detectron2.
            OSError: rank 0 cannot read the file.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        name = str(path)
        if "?" in name or name.endswith((".pkl", ".pyth")):
            raise ValueError(
                f"'{name}' asks for a conversion of weights from another library, which the built-in runtime does not "
                "have: install Detectron2, or convert the file to a .pth with {'model': state dict}"
            )
        if comm.get_world_size() == 1 or not self._distributed:
            return super().load(path, *args, **kwargs)
        local = self.path_manager.get_local_path(path)
        readable = comm.all_gather(os.path.isfile(local))
        if not readable[0]:
            raise OSError(f"the main process cannot read the checkpoint '{path}'")
        mine = readable[comm.get_rank()]
        rest = super().load(local if mine else "", *args, **kwargs)
        if not all(readable):
            logger.warning(f"Some processes cannot read '{path}': they get the model, but not the training state")
            for tensor in self.model.state_dict().values():
                dist.broadcast(tensor, src=0)
        return rest

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
