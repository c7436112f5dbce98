"""Swin backbones beside timm's own networks."""

import pytest
import timm
import torch

from possam.backbones import SwinBackbone, build_backbone
from possam.config import default_config
from possam.engine.optimizer import build_optimizer

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SMALL = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "window_size": 4}


def net(**options):
    return timm.create_model("swin_small_patch4_window7_224", **{**SMALL, "num_classes": 5, **options})


@pytest.fixture
def theirs():
    """timm's network for 256×256 pixels, where all stages are larger than a window or as large."""
    torch.manual_seed(0)
    return net(img_size=256, always_partition=True).eval()


@pytest.fixture
def ours():
    return SwinBackbone(body=net(strict_img_size=False, always_partition=True)).eval()


def normalized(images):
    return (images / 255 - MEAN[:, None, None]) / STD[:, None, None]


def test_features_are_timms_with_a_norm_each(ours, theirs):
    ours.load_pretrained(theirs.state_dict(), "it")
    for norm in ours.norms:
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    images = torch.rand(1, 3, 256, 256) * 255
    with torch.no_grad():
        expected = theirs.forward_intermediates(normalized(images), intermediates_only=True)
        maps = ours(images)
    assert ours.out_channels == {4: 16, 8: 32, 16: 64, 32: 128}
    for (stride, values), raw, norm in zip(maps.items(), expected, ours.norms, strict=True):
        with torch.no_grad():
            wanted = norm(raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert values.shape == (1, ours.out_channels[stride], 256 // stride, 256 // stride)
        assert (values - wanted).abs().max() <= 1e-6 * wanted.abs().max(), stride


def test_any_size_is_the_same_network_as_timms_of_that_size(ours, theirs):
    ours.load_pretrained(theirs.state_dict(), "it")
    other = net(img_size=(96, 160), always_partition=True).eval()
    other.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 96, 160) * 255
    with torch.no_grad():
        raw = other.forward_intermediates(normalized(images), intermediates_only=True)[-1]
        wanted = ours.norms[-1](raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert (ours(images)[32] - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_the_authors_layout_is_read_too(ours, theirs):
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("head.")}
    for index in (1, 2, 3):  # theirs ends a stage with the merging that starts the next one here
        for part in ("reduction.weight", "norm.weight", "norm.bias"):
            state[f"layers.{index - 1}.downsample.{part}"] = state.pop(f"layers.{index}.downsample.{part}")
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(1)
    ours.load_pretrained(state, "it")
    own = ours.body.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in theirs.state_dict().items() if key in own)


@pytest.mark.parametrize("options", [{"window_size": 2}, {"depths": (2, 2, 4, 2)}, {"embed_dim": 32}])
def test_weights_of_another_architecture_are_refused(ours, options):
    with pytest.raises(ValueError, match="another does not fit SwinBackbone: "):
        ours.load_pretrained(net(**options).state_dict(), "another")


def test_the_optimizer_spares_norms_and_tables_and_takes_a_tenth_of_the_rate(ours):
    cfg = default_config()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM, cfg.SOLVER.BASE_LR = 0.05, 0.0, 1.0
    groups = build_optimizer(cfg, ours).param_groups
    decayed = {id(p) for group in groups for p in group["params"] if group["weight_decay"]}
    spared = {name for name, p in ours.named_parameters() if id(p) not in decayed}
    assert {group["lr"] for group in groups} == {0.1}
    assert spared == {n for n in ours.state_dict() if "norm" in n or n.endswith("relative_position_bias_table")}


def test_stochastic_depth_is_random_in_training_alone():
    torch.manual_seed(0)
    backbone = SwinBackbone(body=net(strict_img_size=False, always_partition=True, drop_path_rate=0.5))
    images = torch.rand(1, 3, 64, 64) * 255
    assert torch.equal(backbone.eval()(images)[32], backbone(images)[32])
    assert not torch.equal(backbone.train()(images)[32], backbone(images)[32])


@pytest.mark.parametrize(
    ("name", "model", "width", "window"),
    [
        ("swin_small", "swin_small_patch4_window7_224", 96, 7),
        ("swin_large", "swin_large_patch4_window12_384", 192, 12),
    ],
)
def test_the_official_sizes(name, model, width, window):
    """Parameters as in Mask2Former's backbone: those of timm's without a classifier, and four norms instead of one."""
    with torch.device("meta"):
        backbone = build_backbone(name=name, drop_path_rate=0.3)
        plain = timm.create_model(model, num_classes=0)
    extra = 2 * (width + 2 * width + 4 * width)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count == sum(parameter.numel() for parameter in plain.parameters()) + extra
    assert backbone.out_channels == {4: width, 8: 2 * width, 16: 4 * width, 32: 8 * width}
    windows = {module.window_size for module in backbone.modules() if hasattr(module, "relative_position_bias_table")}
    assert windows == {(window, window)}
