"""The paper's ablations: each is one setting, trains all that it has, and gives a whole segmentation."""

from pathlib import Path

import pytest
import torch
import yaml

from possam.d2.modeling import build_model
from possam.d2.structures import Instances
from possam.engine import load_config, prepare_datasets
from possam.vocabulary import Vocabulary

ABLATIONS = {path.stem: path for path in sorted(Path("configs/ablations").glob("*.yaml"))}
A = Vocabulary.load("mini_a")


def setting(path):
    """The one key and value in which an ablation differs from the whole model."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content.pop("_BASE_") == "../coco/possam_vit_b.yaml" and content.pop("OUTPUT_DIR")
    keys = []
    while isinstance(content, dict):
        ((key, content),) = content.items()
        keys.append(key)
    return [".".join(keys), str(content)]


def training_input(targets=2):
    instances = Instances((128, 128))
    instances.gt_classes = torch.arange(targets)
    instances.gt_masks = torch.zeros(targets, 128, 128, dtype=torch.bool)
    for index, mask in enumerate(instances.gt_masks):
        mask[10 + 40 * index : 40 + 40 * index, 20:70] = True
    image = torch.randint(0, 256, (3, 128, 128), generator=torch.Generator().manual_seed(targets))
    return {"image": image.to(torch.uint8), "vocabulary": A, "instances": instances}


@pytest.fixture(params=ABLATIONS)
def name(request):
    return request.param


@pytest.fixture
def model(name, tmp_path):
    overrides = ["MODEL.TEXT_CACHE", str(tmp_path), *setting(ABLATIONS[name])]
    cfg = load_config("configs/mini/possam.yaml", overrides)
    prepare_datasets(cfg)
    torch.manual_seed(0)
    return build_model(cfg)


def test_the_papers_ablations_are_all_there():
    expected = {"no_fpn", "two_way_decoder", "clip_pooling", "query_only", "ldp_clip_only", "fixed_ensemble"}
    expected |= {"no_iou_head"}
    assert set(ABLATIONS) == expected


@pytest.mark.parametrize("targets", [[2, 0], [0]])
def test_a_training_step_reaches_every_trained_parameter(model, targets):
    """Also one of a batch without any segment: DDP would wait for the gradient of a parameter that has none."""
    model.train()
    losses = model([training_input(count) for count in targets])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    trained = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, gradient in trained.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in trained.values())
    assert not any(key.startswith(("sam.", "clip.")) for key in trained)


def test_segments_an_image(model):
    model.eval()
    (output,) = model([{"image": training_input()["image"], "vocabulary": A, "height": 100, "width": 60}])
    segmentation, segments_info = output["panoptic_seg"]
    assert segmentation.shape == (100, 60)
    assert set(segmentation.unique().tolist()) - {0} == {segment["id"] for segment in segments_info}
    assert output["semantic_seg"].shape == (100, 60) and output["semantic_seg"].max() < len(A)
    assert output["instances"].pred_masks.shape[1:] == (100, 60)
    assert output["instances"].scores.isfinite().all()
    quality = output["mask_quality"]
    assert quality["masks"].shape == (24, 100, 60) and quality["iou"].shape == (24,)


def test_its_parameters_are_saved_and_load_strictly(model):
    state = model.state_dict()
    assert set(state) >= {key for key, p in model.named_parameters() if p.requires_grad}
    assert model.load_state_dict(state, strict=True).missing_keys == []


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("no_fpn", "pyramid.stages"),
        ("two_way_decoder", "pixel_decoder"),
        ("clip_pooling", "ldp.layers"),
        ("query_only", "ldp.layers"),
        ("ldp_clip_only", "ldp.sam_projection"),
        ("no_iou_head", "mask_decoder.iou_head"),
    ],
)
def test_what_it_leaves_out_is_not_there(model, mini_model, without):
    assert any(key.startswith(without) for key in mini_model.state_dict())
    assert not any(key.startswith(without) for key in model.state_dict())


@pytest.mark.parametrize("name", ["no_iou_head"])
def test_without_an_iou_head_there_is_no_iou_loss_and_every_mask_counts_fully(model):
    model.train()
    assert not any("iou" in key for key in model([training_input()]))
    model.eval()
    (prediction,) = model.predict([training_input()])
    assert (prediction.inputs.iou == 1).all()


@pytest.mark.parametrize("name", ["clip_pooling"])
def test_without_ldp_the_class_embedding_starts_as_clips(model):
    model.eval()
    (prediction,) = model.predict([training_input()])
    torch.testing.assert_close(prediction.inputs.query_embeddings, prediction.inputs.clip_embeddings)


@pytest.mark.parametrize("name", ["fixed_ensemble"])
def test_the_fixed_ensemble_is_geometric(model):
    assert model.ensemble == "geometric"


@pytest.mark.parametrize("name", ["two_way_decoder"])
def test_the_two_way_decoder_is_supervised_once(model):
    model.train()
    assert set(model([training_input()])) == {"loss_class", "loss_mask", "loss_dice", "loss_iou"}
