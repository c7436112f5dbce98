"""Open-Vocabulary SAM as its paper and published keys describe it, in plain steps: what the modules must equal.

State dicts have the names of the released files: `neck_student.*`; `fpn_neck.*` and `mask_decoder.*`; and SAM's
`prompt_encoder.*` without the prefix. One image at a time.
"""

import math

import torch
from torch.nn import functional as F

LEVELS = (4, 8, 16, 32)


def layer_norm(state, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def channel_norm(state, name, x):
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    x = (x - mean) / (variance + 1e-6).sqrt()
    return state[f"{name}.weight"][:, None, None] * x + state[f"{name}.bias"][:, None, None]


def dense(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


# SAM2CLIP


def relative(table, length):
    """length×length×D: the row for query i and key j is table[i - j + length - 1]."""
    return torch.stack([torch.stack([table[i - j + length - 1] for j in range(length)]) for i in range(length)])


def vit_attention(state, name, x, heads):
    """h×w×C of one window or image."""
    height, width, channels = x.shape
    qkv = dense(state, f"{name}.qkv", x).reshape(height * width, 3, heads, channels // heads)
    along_h = relative(state[f"{name}.rel_pos_h"], height)
    along_w = relative(state[f"{name}.rel_pos_w"], width)
    out = []
    for head in range(heads):
        q, k, v = (qkv[:, part, head] for part in range(3))
        scores = (q / math.sqrt(q.shape[1])) @ k.T
        grid = q.reshape(height, width, -1)
        by_h = torch.einsum("hwd,hkd->hwk", grid, along_h)[..., :, None]
        by_w = torch.einsum("hwd,wkd->hwk", grid, along_w)[..., None, :]
        scores = scores.reshape(height, width, height, width) + by_h + by_w
        out.append(scores.reshape(height * width, -1).softmax(-1) @ v)
    return dense(state, f"{name}.proj", torch.cat(out, dim=1)).reshape(height, width, channels)


def vit_block(state, name, x, heads, window):
    height, width, channels = x.shape
    y = layer_norm(state, f"{name}.norm1", x, 1e-6)
    if window:
        rows, columns = -(-height // window), -(-width // window)
        padded = torch.zeros(rows * window, columns * window, channels)
        padded[:height, :width] = y
        seen = torch.zeros_like(padded)
        for row in range(rows):
            for column in range(columns):
                place = slice(row * window, (row + 1) * window), slice(column * window, (column + 1) * window)
                seen[place] = vit_attention(state, f"{name}.attn", padded[place], heads)
        x = x + seen[:height, :width]
    else:
        x = x + vit_attention(state, f"{name}.attn", y, heads)
    hidden = F.gelu(dense(state, f"{name}.mlp.lin1", layer_norm(state, f"{name}.norm2", x, 1e-6)))
    return x + dense(state, f"{name}.mlp.lin2", hidden)


def student(state, maps, *, heads=16, window=14):
    """{stride: 1×C×h×w} of CLIP → 1×256×h×w at stride 16."""
    state = {key.removeprefix("neck_student."): value for key, value in state.items()}
    total = 0
    for index, stride in enumerate(LEVELS):
        weight, bias = (state[f"patch_embeds.{index}.projection.{part}"] for part in ("weight", "bias"))
        if stride <= 16:
            level = F.conv2d(maps[stride], weight, bias, stride=16 // stride)
        else:
            level = F.conv_transpose2d(maps[stride], weight, bias, stride=2)
        total = total + level[0].permute(1, 2, 0) + state["level_encoding.weight"][index]
    x = total + state["pos_embed"][0]
    blocks = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    for index in range(blocks):
        x = vit_block(state, f"blocks.{index}", x, heads, 0 if index == blocks - 1 else window)
    x = F.conv2d(x.permute(2, 0, 1)[None], state["neck.0.weight"])
    x = channel_norm(state, "neck.1", x)
    x = F.conv2d(x, state["neck.2.weight"], padding=1)
    return channel_norm(state, "neck.3", x)


# CLIP2SAM


def feature_pyramid(state, maps):
    """{stride: 1×C×h×w} of CLIP → {stride: 1×256×h×w}."""

    def convolve(kind, index, x, padding):
        name = f"fpn_neck.{kind}.{index}.conv"
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    laterals = [convolve("lateral_convs", index, maps[stride], 0) for index, stride in enumerate(LEVELS)]
    for index in (2, 1, 0):
        laterals[index] = laterals[index] + laterals[index + 1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    return {stride: convolve("fpn_convs", index, laterals[index], 1) for index, stride in enumerate(LEVELS)}


def bilinear(features, x, y):
    """C×h×w at a point in cells, where cell i is centered at i: 0 outside, values of the border up to a cell away."""
    height, width = features.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(len(features))
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 1), min(int(y), height - 1)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    dx, dy = x - left, y - top
    upper = (1 - dx) * features[:, top, left] + dx * features[:, top, right]
    lower = (1 - dx) * features[:, bottom, left] + dx * features[:, bottom, right]
    return (1 - dy) * upper + dy * lower


def region(features, box, stride, cells):
    """C×h×w and (x0, y0, x1, y1) in pixels → C×cells×cells, the mean of ceil(size of a bin)² samples in each bin."""
    x0, y0, x1, y1 = (float(value) / stride - 0.5 for value in box)
    out = torch.zeros(len(features), cells, cells)
    bin_w, bin_h = (x1 - x0) / cells, (y1 - y0) / cells
    across, down = math.ceil(bin_w), math.ceil(bin_h)
    for row in range(cells):
        for column in range(cells):
            points = [
                (x0 + (column + (i + 0.5) / across) * bin_w, y0 + (row + (j + 0.5) / down) * bin_h)
                for j in range(down)
                for i in range(across)
            ]
            if points:
                out[:, row, column] = torch.stack([bilinear(features, *point) for point in points]).mean(0)
    return out


def box_level(box):
    scale = math.sqrt(max(0.0, float((box[2] - box[0]) * (box[3] - box[1]))))
    return min(3, max(0, math.floor(math.log2(scale / 56 + 1e-6))))


def class_embedding(state, pyramid, box, cells=12):
    """D: the class embedding of one box, not normalized."""
    stride = LEVELS[box_level(box)]
    aligned = region(pyramid[stride][0], box, stride, cells)
    weight = state["mask_decoder.roi_conv.0.conv.weight"][:, :, 0, 0]
    return torch.einsum("dc,chw->dhw", weight, aligned).clamp(min=0).mean((1, 2))


def fourier(matrix, places):
    """…×2 in [0, 1] → …×C."""
    angles = 2 * math.pi * ((2 * places - 1) @ matrix)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def prompt_tokens(state, size, *, points=(), box=None):
    """Tokens S×C of (x, y, label) points and/or a box, in pixels of a padded image of `size` (height, width)."""
    matrix = state["pe_layer.positional_encoding_gaussian_matrix"]
    scale = torch.tensor([size[1], size[0]])
    rows = []
    for x, y, label in points:
        place = (torch.tensor([x, y]) + 0.5) / scale
        rows.append(fourier(matrix, place) + state[f"point_embeddings.{label}.weight"][0])
    if box is None:
        rows.append(state["not_a_point_embed.weight"][0])
    else:
        for corner, kind in ((box[:2], 2), (box[2:], 3)):
            place = (torch.tensor(corner) + 0.5) / scale
            rows.append(fourier(matrix, place) + state[f"point_embeddings.{kind}.weight"][0])
    return torch.stack(rows)


def attention(state, name, q, k, v, heads):
    q, k, v = (dense(state, f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v)))
    width = q.shape[1] // heads
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        out.append((q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(-1) @ v[:, part])
    return dense(state, f"{name}.out_proj", torch.cat(out, dim=1))


def two_way(state, tokens, image, positions, heads):
    """Tokens T×C, image (h·w)×C and its positions → the same two."""
    queries, first = tokens, tokens
    for index in range(2):
        name = f"transformer.layers.{index}"
        if index == 0:
            queries = attention(state, f"{name}.self_attn", queries, queries, queries, heads)
        else:
            q = queries + first
            queries = queries + attention(state, f"{name}.self_attn", q, q, queries, heads)
        queries = layer_norm(state, f"{name}.norm1", queries)
        q, k = queries + first, image + positions
        queries = queries + attention(state, f"{name}.cross_attn_token_to_image", q, k, image, heads)
        queries = layer_norm(state, f"{name}.norm2", queries)
        hidden = dense(state, f"{name}.mlp.lin1", queries).clamp(min=0)
        queries = layer_norm(state, f"{name}.norm3", queries + dense(state, f"{name}.mlp.lin2", hidden))
        q, k = queries + first, image + positions
        image = image + attention(state, f"{name}.cross_attn_image_to_token", k, q, queries, heads)
        image = layer_norm(state, f"{name}.norm4", image)
    q, k = queries + first, image + positions
    queries = queries + attention(state, "transformer.final_attn_token_to_image", q, k, image, heads)
    return layer_norm(state, "transformer.norm_final_attn", queries), image


def mask(state, prompt_state, embedding, tokens, *, heads=8):
    """The one mask of one prompt: embedding 1×C×h×w, prompt tokens S×C → 4h×4w logits."""
    label = state["mask_decoder.label_token.weight"]
    state = {
        key.removeprefix("mask_decoder.mask_decoder."): value
        for key, value in state.items()
        if key.startswith("mask_decoder.mask_decoder.")
    }
    _, channels, height, width = embedding.shape
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    matrix = prompt_state["pe_layer.positional_encoding_gaussian_matrix"]
    positions = fourier(matrix, torch.stack([x, y], dim=-1)).reshape(height * width, channels)
    image = (embedding + prompt_state["no_mask_embed.weight"][..., None, None])[0].flatten(1).T
    tokens = torch.cat([label, state["mask_tokens.weight"], tokens])
    tokens, image = two_way(state, tokens, image, positions, heads)
    x = image.T.reshape(1, channels, height, width)
    x = F.conv_transpose2d(x, state["output_upscaling.0.weight"], state["output_upscaling.0.bias"], stride=2)
    x = F.gelu(channel_norm(state, "output_upscaling.1", x))
    x = F.conv_transpose2d(x, state["output_upscaling.3.weight"], state["output_upscaling.3.bias"], stride=2)
    features = F.gelu(x)[0]
    hyper = tokens[1]
    for index in range(3):
        hyper = dense(state, f"output_hypernetworks_mlps.0.layers.{index}", hyper)
        hyper = hyper.clamp(min=0) if index < 2 else hyper
    return torch.einsum("c,chw->hw", hyper, features)


def mask_box(logits, stride=4):
    """Tight box in pixels of the positive cells of h×w logits; (0, 0, 0, 0) without one."""
    rows, columns = (logits > 0).any(1).nonzero()[:, 0], (logits > 0).any(0).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(4)
    return stride * torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def attention_pool(state, features, heads):
    """CLIP's pool of D_v×side×side: the mean and the cells, each with its position; the mean's output → D."""
    cells = features.flatten(1).T
    tokens = torch.cat([cells.mean(0, keepdim=True), cells]) + state["positional_embedding"]
    q, k, v = (dense(state, f"{part}_proj", tokens) for part in "qkv")
    width = q.shape[1] // heads
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        out.append((q[:1, part] @ k[:, part].T / math.sqrt(width)).softmax(-1) @ v[:, part])
    return dense(state, "c_proj", torch.cat(out, dim=1))[0]


def class_logits(embedding, texts):
    """100 times the largest cosine with a class's names, K×P×D unit vectors (P names each) → K."""
    return 100 * torch.einsum("d,kpd->kp", F.normalize(embedding, dim=0), texts).amax(1)


# The released files


def student_shapes(*, channels=(384, 768, 1536, 3072), width=1280, heads=16, grid=64, window=14, out=256, blocks=5):
    """{name: shape} of a `neck_student` file."""
    shapes = {"pos_embed": (1, grid, grid, width), "level_encoding.weight": (4, width)}
    for index, (wide, kernel) in enumerate(zip(channels, (4, 2, 1, 2), strict=True)):
        shape = (wide, width, kernel, kernel) if index == 3 else (width, wide, kernel, kernel)
        shapes |= {f"patch_embeds.{index}.projection.weight": shape, f"patch_embeds.{index}.projection.bias": (width,)}
    for index in range(blocks):
        side = grid if index == blocks - 1 else window
        own = {f"norm{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}
        for name, o, i in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
            ("mlp.lin1", 4 * width, width), ("mlp.lin2", width, 4 * width),
        ):  # fmt: skip
            own |= {f"{name}.weight": (o, i), f"{name}.bias": (o,)}
        own |= {f"attn.rel_pos_{axis}": (2 * side - 1, width // heads) for axis in "hw"}
        shapes |= {f"blocks.{index}.{name}": shape for name, shape in own.items()}
    shapes |= {"neck.0.weight": (out, width, 1, 1), "neck.2.weight": (out, out, 3, 3)}
    shapes |= {f"neck.{index}.{part}": (out,) for index in (1, 3) for part in ("weight", "bias")}
    return {f"neck_student.{name}": shape for name, shape in shapes.items()}


def _mlp(name, *widths):
    pairs = enumerate(zip(widths[:-1], widths[1:], strict=True))
    layers = {f"{name}.layers.{index}": (o, i) for index, (i, o) in pairs}
    return {**{f"{n}.weight": s for n, s in layers.items()}, **{f"{n}.bias": s[:1] for n, s in layers.items()}}


def head_shapes(*, channels=(384, 768, 1536, 3072), width=256, embed_dim=768, hidden=2048):
    """{name: shape} of a `clip2sam` file: the feature pyramid and the decoder."""
    shapes = {}
    for index, wide in enumerate(channels):
        shapes[f"fpn_neck.lateral_convs.{index}.conv.weight"] = (width, wide, 1, 1)
        shapes[f"fpn_neck.fpn_convs.{index}.conv.weight"] = (width, width, 3, 3)
        shapes |= {f"fpn_neck.{kind}.{index}.conv.bias": (width,) for kind in ("lateral_convs", "fpn_convs")}
    head = {"label_token.weight": (1, width), "roi_conv.0.conv.weight": (embed_dim, width, 1, 1)}
    head |= _mlp("label_mlp", width, width, width, embed_dim)
    own = {"mask_tokens.weight": (1, width)}

    def attended(name, inner):
        found = {f"{name}.{part}_proj.weight": (inner, width) for part in "qkv"}
        found |= {f"{name}.{part}_proj.bias": (inner,) for part in "qkv"}
        return {**found, f"{name}.out_proj.weight": (width, inner), f"{name}.out_proj.bias": (width,)}

    for index in range(2):
        layer = f"transformer.layers.{index}"
        own |= attended(f"{layer}.self_attn", width)
        for name in ("cross_attn_token_to_image", "cross_attn_image_to_token"):
            own |= attended(f"{layer}.{name}", width // 2)
        own |= {f"{layer}.norm{n}.{part}": (width,) for n in (1, 2, 3, 4) for part in ("weight", "bias")}
        own |= {f"{layer}.mlp.lin1.weight": (hidden, width), f"{layer}.mlp.lin1.bias": (hidden,)}
        own |= {f"{layer}.mlp.lin2.weight": (width, hidden), f"{layer}.mlp.lin2.bias": (width,)}
    own |= attended("transformer.final_attn_token_to_image", width // 2)
    own |= {f"transformer.norm_final_attn.{part}": (width,) for part in ("weight", "bias")}
    own |= {"output_upscaling.0.weight": (width, width // 4, 2, 2), "output_upscaling.0.bias": (width // 4,)}
    own |= {f"output_upscaling.1.{part}": (width // 4,) for part in ("weight", "bias")}
    own |= {"output_upscaling.3.weight": (width // 4, width // 8, 2, 2), "output_upscaling.3.bias": (width // 8,)}
    own |= _mlp("output_hypernetworks_mlps.0", width, width, width, width // 8)
    head |= {f"mask_decoder.{name}": shape for name, shape in own.items()}
    return {**shapes, **{f"mask_decoder.{name}": shape for name, shape in head.items()}}


def prompt_shapes(*, width=256):
    """{name: shape} of SAM's prompt encoder."""
    shapes = {"pe_layer.positional_encoding_gaussian_matrix": (2, width // 2)}
    shapes |= {f"point_embeddings.{index}.weight": (1, width) for index in range(4)}
    shapes |= {"not_a_point_embed.weight": (1, width), "no_mask_embed.weight": (1, width)}
    shapes |= {"mask_downscaling.0.weight": (4, 1, 2, 2), "mask_downscaling.3.weight": (16, 4, 2, 2)}
    shapes |= {"mask_downscaling.6.weight": (width, 16, 1, 1), "mask_downscaling.6.bias": (width,)}
    for index, wide in ((0, 4), (1, 4), (3, 16), (4, 16)):
        shapes |= {f"mask_downscaling.{index}.bias": (wide,)}
        if index in (1, 4):
            shapes |= {f"mask_downscaling.{index}.weight": (wide,)}
    return shapes


def random_state(shapes, seed=0, scale=0.15):
    """Values for names and shapes; norms' weights are around 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = scale * torch.randn(shape, generator=generator)
        normed = name.endswith(".weight") and len(shape) == 1
        state[name] = value + 1 if normed else value
    return state
