"""A batch of images of different sizes.

B: images; H×W: the padded size; h×w: the size of one image.
"""

from typing import Any

import torch
from torch import device as Device  # a name that TorchScript can resolve here
from torch.nn import functional as F

__all__ = ["ImageList"]


class ImageList:
    """Images padded on the right and below to one size, which remember their own sizes.

    ``tensor`` is B×H×W or B×C…×H×W; ``image_sizes`` lists (h, w).
    """

    def __init__(self, tensor: torch.Tensor, image_sizes: list[tuple[int, int]]):
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx) -> torch.Tensor:
        """Image ``idx`` without its padding."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    @torch.jit.unused
    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """The same batch, its tensor moved or cast by ``Tensor.to``."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> Device:
        """Where the tensor is."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: list[torch.Tensor], size_divisibility: int = 0, pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Batch images of h×w or C…×h×w, equal but for h and w.

        Args:
            tensors: the images.
            size_divisibility: H and W become multiples of it, if above 1.
            pad_value: what the padding is filled with.
            padding_constraints: "size_divisibility" overrides the argument; "square_size", if above 0, is H and W.
        """
        assert len(tensors) > 0, "an ImageList needs at least one image"
        for image in tensors:
            assert image.shape[:-2] == tensors[0].shape[:-2], image.shape
        sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        # As tensors, sizes stay symbolic in a trace, so that the traced function takes other sizes too.
        size_tensors = [_as_tensor(size) for size in sizes]
        padded = torch.stack(size_tensors).max(dim=0).values
        if padding_constraints is not None:
            square = padding_constraints.get("square_size", 0)
            if square > 0:
                padded = torch.full_like(padded, square)
            size_divisibility = padding_constraints.get("size_divisibility", size_divisibility)
        if size_divisibility > 1:
            steps = (padded + (size_divisibility - 1)).div(size_divisibility, rounding_mode="floor")
            padded = steps * size_divisibility
        if torch.jit.is_scripting():
            height, width = int(padded[0].item()), int(padded[1].item())
        elif torch.jit.is_tracing():
            height, width = padded[0], padded[1]  # type: ignore[assignment]
            sizes = size_tensors  # type: ignore[assignment]
        else:
            height, width = padded.tolist()
        rows = []
        for image in tensors:
            # Padding each image, rather than copying all into one buffer, is what a trace can follow.
            below, right = height - image.shape[-2], width - image.shape[-1]
            rows.append(F.pad(image, [0, right, 0, below], value=pad_value))
        return ImageList(torch.stack(rows).contiguous(), sizes)


def _as_tensor(size: tuple[int, int]) -> torch.Tensor:
    if not torch.jit.is_scripting():
        if torch.jit.is_tracing():
            return torch.stack([torch.as_tensor(side) for side in size])
    return torch.as_tensor([size[0], size[1]])
