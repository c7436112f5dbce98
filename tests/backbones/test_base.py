from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import possam.backbones
from possam.backbones import backbone_names, build_backbone, check_backbone


def test_an_unknown_name_is_answered_with_the_valid_ones():
    assert set(backbone_names()) == {"resnet50", "resnet101", "mini_r", "swin_small", "swin_large"}
    with pytest.raises(ValueError, match=r"no backbone is called 'resnet5'.*resnet50, resnet101, mini_r.*mean"):
        build_backbone(name="resnet5")


def test_images_must_fit_the_strides():
    backbone = build_backbone(name="mini_r")
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 40)):
        with pytest.raises(ValueError, match="multiples of 32, but got shape"):
            backbone(torch.zeros(shape))


def test_weights_are_checked_before_they_are_read(tmp_path):
    official = "weights/resnet50-0676ba61.pth"
    check_backbone(key="MODEL.BACKBONE", name="resnet50", weights=official)
    check_backbone(key="MODEL.BACKBONE", name="resnet50", weights="")
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.WEIGHTS .* those of resnet50, not .* 'swin_large'"):
        check_backbone(key="MODEL.BACKBONE", name="swin_large", weights=official)
    with pytest.raises(ValueError, match=r"neither a file nor .*\(resnet50-0676ba61\.pth\)"):
        check_backbone(key="MODEL.BACKBONE", name="resnet50", weights=str(tmp_path / "a.pth"))
    (tmp_path / "a.pth").touch()
    check_backbone(key="MODEL.BACKBONE", name="resnet50", weights=str(tmp_path / "a.pth"))
    with pytest.raises(FileNotFoundError, match=r"no resnet50 weights at .*`possam weights download resnet50`"):
        build_backbone(name="resnet50", weights=official)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot read resnet50 weights"):
        build_backbone(name="resnet50", weights=tmp_path / "a.pth")


def test_the_miniature_comes_with_weights():
    shipped = build_backbone(name="mini_r", weights="shipped")
    path = Path(possam.backbones.__file__).parent / "weights/mini_r.safetensors"
    assert torch.equal(shipped.body.conv1.weight, load_file(path)["conv1.weight"].float())
    with pytest.raises(ValueError, match="^weights is 'shipped', but .* no weights of 'resnet50', only of mini_r"):
        build_backbone(name="resnet50", weights="shipped")
    check_backbone(key="MODEL.BACKBONE", name="mini_r", weights="shipped")
    with pytest.raises(ValueError, match=r"^MODEL.BACKBONE.WEIGHTS is 'shipped', but the package has no weights of"):
        check_backbone(key="MODEL.BACKBONE", name="resnet50", weights="shipped")
    with pytest.raises(ValueError, match=r"'shiped' is neither a file .* 'mini_r' \(shipped\)"):
        check_backbone(key="MODEL.BACKBONE", name="mini_r", weights="shiped")
