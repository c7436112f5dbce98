"""Multi-layer perceptron."""

from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Linear


class MLP(nn.Module):
    """``layers`` linear maps with ReLU between them and none after the last."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"an MLP needs at least one layer, but got layers={layers}")
        widths = [in_channels, *[hidden_channels] * (layers - 1), out_channels]
        self.layers = nn.ModuleList(
            Linear(width, following) for width, following in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """…×in_channels → …×out_channels."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
