"""SAM2CLIP's training: plain mean squared error to SAM's embedding, whose cached features serve."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import possam.decoders
from possam.d2.modeling import build_model
from possam.engine import load_config
from possam.models import OVSAMDistillation
from possam.vocabulary import Vocabulary

A = Vocabulary.load("mini_a")
SETTINGS = ["MODEL.TEXT_CACHE", "", "MODEL.TRAIN_VOCABULARY", "mini_a"]


def build(*settings, config="ovsam_sam2clip"):
    torch.manual_seed(0)
    return build_model(load_config(f"configs/mini/{config}.yaml", [*SETTINGS, *settings]))


@pytest.fixture(scope="module")
def model():
    return build()


def inputs(seed=0):
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return {"image": image, "vocabulary": A}


def test_the_loss_is_the_mean_squared_error_of_the_padded_image(model):
    padded = torch.cat([inputs()["image"].float(), model.clip.pixel_mean[0].expand(3, 32, 128)], dim=1)[None]
    expected = F.mse_loss(model.sam2clip(model.clip(padded)), model.sam.final(padded))
    losses = model.train()([inputs()])
    assert losses.keys() == {"loss_distillation"}
    assert losses["loss_distillation"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_only_sam2clip_is_trained_over_the_teachers_positions(model):
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"sam2clip.{name}" for name, _ in model.sam2clip.named_parameters()}
    assert torch.equal(model.sam2clip.positions, model.sam.encoder.pos_embed)
    assert not any(key.startswith(("sam.", "clip.")) for key in model.state_dict())


def test_cached_features_of_the_teacher_are_enough(model, monkeypatch):
    assert model.cached_roles == ("clip", "sam")  # the miniature's CLIP is small enough
    monkeypatch.setattr(model, "cache_clip", False)
    assert model.cached_roles == ("sam",)
    features = model.encode([inputs()["image"]], roles=model.cached_roles)
    assert set(features) == {"sam"}
    cached = {"sam": {8: features["sam"][8][0].half()}}
    model.train()
    plain, from_disk = model([inputs()]), model([{**inputs(), "features": cached}])
    assert from_disk["loss_distillation"].item() == pytest.approx(plain["loss_distillation"].item(), rel=1e-3)
    wrong = {"sam": {8: 3 + cached["sam"][8]}}
    assert model([{**inputs(), "features": wrong}])["loss_distillation"] > 2 * plain["loss_distillation"]


def test_the_student_learns_and_the_second_training_takes_it(tmp_path):
    model = build().train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for step in range(12):
        loss = model([inputs(step % 2)])["loss_distillation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    torch.save({"model": model.state_dict()}, tmp_path / "model_final.pth")
    second = build("MODEL.SAM2CLIP.WEIGHTS", str(tmp_path / "model_final.pth"), config="ovsam")
    assert not isinstance(second, OVSAMDistillation)
    for key, value in model.sam2clip.state_dict().items():
        assert torch.equal(value, second.sam2clip.state_dict()[key])


def test_its_own_masks_are_those_of_sams_decoder(model):
    """SAM2CLIP is scored with the shipped decoder, which no label token of random values disturbs."""
    shipped = load_file(Path(possam.decoders.__file__).parent / "weights" / "mini_sam_decoder.safetensors")
    own = {key: value for key, value in model.state_dict().items() if key.startswith(("prompt_", "mask_"))}
    assert own.keys() == shipped.keys() and all(torch.equal(value, shipped[key].float()) for key, value in own.items())


def test_a_student_that_does_not_fit_the_teacher_is_refused():
    with pytest.raises(ValueError, match=r"embedding has stride 8 and 64 channels, but SAM2CLIP's 16 and 64"):
        build("MODEL.SAM2CLIP.STRIDE", "16", "MODEL.SAM2CLIP.GRID", "8")
    with pytest.raises(ValueError, match="SAM2CLIP has width 48, but the position embedding 96"):
        build("MODEL.SAM2CLIP.WIDTH", "48")
