"""Tensors with the names and shapes of FC-CLIP's published files."""

import math

import torch

CONVNEXT_L = ((192, 384, 768, 1536), 768)
BACKBONES = {
    "convnext_large_d_320": (*CONVNEXT_L, 20_721_601),
    "RN50": ((256, 512, 1024, 2048), 1024, 21_033_409),
    "RN101": ((256, 512, 1024, 2048), 512, 20_901_313),
    "RN50x4": ((320, 640, 1280, 2560), 640, 21_180_097),
    "RN50x16": ((384, 768, 1536, 3072), 768, None),
    "RN50x64": ((512, 1024, 2048, 4096), 1024, None),
    "convnext_base_w_320": ((128, 256, 512, 1024), 640, None),
}
"""CLIP: widths of strides 4, 8, 16, 32, width of its joint space, and trained parameters where they are known."""


def published_state(
    widths=CONVNEXT_L[0],
    embed_dim=CONVNEXT_L[1],
    *,
    channels=256,
    queries=250,
    layers=9,
    ffn=2048,
    pixel_layers=6,
    pixel_ffn=1024,
    device="meta",
):
    """302 tensors at published sizes, and `criterion.empty_weight`; random ones, on another device than meta."""
    C = channels
    shapes = {}

    def add(name, *weight, bias=True):
        shapes[f"{name}.weight"] = weight
        if bias:
            shapes[f"{name}.bias"] = weight[:1]

    decoder, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    for index, width in enumerate(reversed(widths[1:])):
        add(f"{decoder}input_proj.{index}.0", C, width, 1, 1)
        add(f"{decoder}input_proj.{index}.1", C)
    shapes[f"{decoder}transformer.level_embed"] = (3, C)
    for index in range(pixel_layers):
        layer = f"{decoder}transformer.encoder.layers.{index}."
        add(f"{layer}self_attn.sampling_offsets", 192, C)
        add(f"{layer}self_attn.attention_weights", 96, C)
        add(f"{layer}self_attn.value_proj", C, C)
        add(f"{layer}self_attn.output_proj", C, C)
        add(f"{layer}norm1", C)
        add(f"{layer}linear1", pixel_ffn, C)
        add(f"{layer}linear2", C, pixel_ffn)
        add(f"{layer}norm2", C)
    add(f"{decoder}adapter_1", C, widths[0], 1, 1, bias=False)
    add(f"{decoder}adapter_1.norm", C)
    add(f"{decoder}layer_1", C, C, 3, 3, bias=False)
    add(f"{decoder}layer_1.norm", C)
    add(f"{decoder}mask_features", C, C, 1, 1)
    for index in range(layers):
        for kind, attention in (("cross", "multihead_attn"), ("self", "self_attn")):
            layer = f"{predictor}transformer_{kind}_attention_layers.{index}."
            shapes[f"{layer}{attention}.in_proj_weight"] = (3 * C, C)
            shapes[f"{layer}{attention}.in_proj_bias"] = (3 * C,)
            add(f"{layer}{attention}.out_proj", C, C)
            add(f"{layer}norm", C)
        layer = f"{predictor}transformer_ffn_layers.{index}."
        add(f"{layer}linear1", ffn, C)
        add(f"{layer}linear2", C, ffn)
        add(f"{layer}norm", C)
    add(f"{predictor}decoder_norm", C)
    for name, rows in (("query_feat", queries), ("query_embed", queries), ("level_embed", 3)):
        add(predictor + name, rows, C, bias=False)
    for index in range(3):
        add(f"{predictor}mask_embed.layers.{index}", C, C)
        add(f"{predictor}class_embed.layers.{index}", embed_dim if index == 2 else C, C)
    add(f"{predictor}_mask_pooling_proj.0", C)
    add(f"{predictor}_mask_pooling_proj.1", C, C)
    shapes[f"{predictor}logit_scale"] = ()
    add("void_embedding", 1, embed_dim, bias=False)
    shapes["criterion.empty_weight"] = (134,)
    generator = None if device == "meta" else torch.Generator(device).manual_seed(0)
    state = {name: _tensor(name, shape, device, generator) for name, shape in shapes.items()}
    state[f"{predictor}logit_scale"] = torch.tensor(math.log(1 / 0.07), device=device)
    return state


def _tensor(name, shape, device, generator):
    if name.endswith("norm.weight") or (len(shape) == 1 and name.endswith("weight")):
        return torch.ones(shape, device=device)
    width = shape[-1] if len(shape) == 2 else math.prod(shape[1:])
    return torch.empty(shape, device=device).normal_(0, max(1, width) ** -0.5, generator=generator)
