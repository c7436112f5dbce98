"""Tiny CLIPs with random weights whose image towers are open_clip's and timm's own types."""

import open_clip
import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from possam.encoders.clip import FrozenCLIP

TEXT = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
ROTARY = {"use_rot_pos_emb": True, "ref_feat_shape": (3, 3)}
# What makes the real ones what they are, at a fraction of their size.
TRUNKS = {
    "tiny_convnext": (ConvNeXt, {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 64)}),
    "tiny_siglip": (VisionTransformer, {**SMALL, "class_token": False, "global_pool": "map"}),
    "tiny_clip_vit": (VisionTransformer, {**SMALL, "pre_norm": True, "init_values": 0.5, "no_embed_class": True}),
    "tiny_gap_vit": (VisionTransformer, {**SMALL, "class_token": False, "global_pool": "avg", "fc_norm": False}),
    "tiny_eva": (Eva, {**SMALL, "global_pool": "token"}),
    "tiny_eva02": (
        Eva,
        {**SMALL, **ROTARY, "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True},
    ),
    "tiny_eva02_e": (Eva, {**SMALL, "use_post_norm": True}),
    "tiny_pe": (
        Eva,
        {**SMALL, **ROTARY, "global_pool": "map", "attn_type": "rope", "use_pre_transformer_norm": True},
    ),
}
default_cfgs = generate_default_cfgs(
    {
        name: {"input_size": (3, 64, 64), "pool_size": (2, 2)} if "convnext" in name else {"input_size": (3, 32, 32)}
        for name in TRUNKS
    }
)


def _register(name):
    kind, shape = TRUNKS[name]

    def build(pretrained=False, **kwargs):
        return build_model_with_cfg(kind, name, pretrained, **{**shape, **kwargs})

    build.__name__ = name
    register_model(build)


for _name in TRUNKS:
    if not timm.is_model(_name):
        _register(_name)


def tokenize(texts, context_length):
    rows = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        ids = [1, *(2 + ord(letter) % 50 for letter in text)][: context_length - 1] + [63]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def frozen(vision, *, embed_dim=16, randomize=True, **options):
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim, vision, TEXT)
    if randomize:  # zero and unit initializations would hide a forgotten bias, norm or position
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer += 0.1 * torch.rand_like(buffer)
    return FrozenCLIP(model=model, tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD, **options)


def images(height, width, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255


def normalized(pixels):
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels / 255 - mean) / std
