"""Attention and feed-forward layers of the mask decoder, each with residual and LayerNorm after it."""

# B images, Q queries, S positions of the memory, C channels

from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Linear, linear


class MultiheadAttention(nn.Module):
    """Multi-head attention whose mask is shared by the heads.

    ``nn.MultiheadAttention`` wants the mask once a head and turns it to float: at 1024×1024 pixels that is
    hundreds of megabytes an image. Weights are laid out and initialized as there: one ``in_proj`` for query,
    key and value, Xavier-uniform over the whole of it.
    """

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be divisible by heads, but got {channels} and {heads}")
        self.heads = heads
        self.in_proj = Linear(channels, 3 * channels)
        self.out_proj = Linear(channels, channels)
        for layer in (self.in_proj, self.out_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Query B×Q×C, key and value B×S×C → B×Q×C.

        ``allowed``, B×Q×S bool, is True where a query may attend; every row needs at least one True.
        """
        weights = self.in_proj.weight.chunk(3)
        biases = self.in_proj.bias.chunk(3)
        q, k, v = (
            linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if allowed is None else allowed[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class CrossAttentionLayer(nn.Module):
    """Masked cross-attention from queries to a feature map (Mask2Former 3.2.1)."""

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(channels=channels, heads=heads)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, queries: Tensor, positions: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Queries and their positions B×Q×C, keys (with positions) and values B×S×C, allowed B×Q×S bool."""
        return self.norm(queries + self.attention(queries + positions, keys, values, allowed))


class SelfAttentionLayer(nn.Module):
    """Self-attention among queries; positions are added to queries and keys, not to values."""

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(channels=channels, heads=heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, positions: Tensor) -> Tensor:
        """B×Q×C and B×Q×C (or 1×Q×C) → B×Q×C."""
        placed = queries + positions
        return self.norm(queries + self.attention(placed, placed, queries))


class FeedForwardLayer(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(channels, hidden)
        self.linear2 = Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """…×C → …×C."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


def attend_somewhere(allowed: Tensor) -> Tensor:
    """Opens every row of a …×S bool mask that allows nothing (METHOD.md 1.3)."""
    return allowed | ~allowed.any(dim=-1, keepdim=True)


def attend_inside(mask_logits: Tensor) -> Tensor:
    """Where each query may look: inside its mask of the layer before (Mask2Former 3.2.1; METHOD.md 1.3).

    Args:
        mask_logits: B×Q×S, resized to the map attended to.

    Returns:
        B×Q×S bool, True inside the mask, and everywhere for a mask without a position.
    """
    return attend_somewhere(mask_logits >= 0)
