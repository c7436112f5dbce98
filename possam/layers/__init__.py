"""Parts of networks without configuration, registry or class names."""

from .attention import CrossAttentionLayer, FeedForwardLayer, MultiheadAttention, SelfAttentionLayer
from .deformable_attention import MultiScaleDeformableAttention, level_reference_points
from .deformable_attention_sampling import deformable_sampling
from .linear import Linear
from .mask_pooling import mask_pool
from .mlp import MLP
from .norm import LayerNorm2d
from .point_sampling import point_sample
from .position_encoding import PositionEmbeddingSine

__all__ = [
    "MLP",
    "CrossAttentionLayer",
    "FeedForwardLayer",
    "LayerNorm2d",
    "Linear",
    "MultiScaleDeformableAttention",
    "MultiheadAttention",
    "PositionEmbeddingSine",
    "SelfAttentionLayer",
    "deformable_sampling",
    "level_reference_points",
    "mask_pool",
    "point_sample",
]
