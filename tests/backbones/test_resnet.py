"""ResNet backbones beside torchvision's own networks."""

import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from possam.backbones import build_backbone

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def theirs():
    """A torchvision ResNet-50 with weights and statistics that are not those of initialization."""
    torch.manual_seed(0)
    net = resnet50(weights=None)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.2, 0.6)
            module.bias.data.normal_(std=0.1)
    return net.eval()


@pytest.fixture(scope="module")
def weights(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "r50.pth"
    torch.save(theirs.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def ours(weights):
    return build_backbone(name="resnet50", weights=weights)


def test_features_are_torchvisions(ours, theirs):
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 255
    nodes = {f"layer{index}": str(stride) for index, stride in enumerate((4, 8, 16, 32), start=1)}
    normalized = (images / 255 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        expected = create_feature_extractor(theirs, nodes)(normalized)
        maps = ours.train()(images)  # frozen norms take their own statistics in training, too
    assert ours.out_channels == {4: 256, 8: 512, 16: 1024, 32: 2048}
    for stride, values in maps.items():
        scale = expected[str(stride)].abs().max()
        assert (values - expected[str(stride)]).abs().max() <= 1e-6 * scale, stride


def test_everything_but_the_frozen_norms_is_trained(ours):
    trained = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in ours.state_dict() if ".bn" not in name and ".downsample.1" not in name}
    ours(torch.rand(1, 3, 32, 32) * 255)[32].sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    ours.zero_grad(set_to_none=True)


def test_weights_of_another_architecture_are_refused(weights):
    with pytest.raises(ValueError, match=r"does not fit ResNetBackbone: \d+ missing: layer3\.6\."):
        build_backbone(name="resnet101", weights=weights)


def test_weights_must_be_finite(weights, tmp_path):
    state = torch.load(weights)
    state["layer1.0.conv1.weight"][0] = torch.nan
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match=r"NaN or infinite: layer1\.0\.conv1\.weight"):
        build_backbone(name="resnet50", weights=tmp_path / "broken.pth")


def test_resnet101_has_its_depth():
    with torch.device("meta"):
        backbone = build_backbone(name="resnet101")
    # 44,549,160 of torchvision's, without its classifier (2,049,000) and the 105,344 of the norms
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 44_549_160 - 2_049_000 - 105_344


def test_the_miniature_trains_its_norms_and_depends_on_no_other_image():
    torch.manual_seed(0)
    mini = build_backbone(name="mini_r", lr_factor=1.0)
    assert mini.lr_factor == 1.0 and mini.out_channels == {4: 64, 8: 128, 16: 256, 32: 512}
    assert sum(parameter.numel() for parameter in mini.parameters()) < 1.3e6
    images = torch.rand(2, 3, 64, 64) * 255
    together, alone = mini.train()(images), mini(images[1:])
    assert all(torch.allclose(together[stride][1:], alone[stride], atol=1e-5) for stride in together)
