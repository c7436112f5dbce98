"""The baseline of SAM and CLIP against segment_anything and open_clip."""

import numpy as np
import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch.nn import functional as F

from possam import Predictor
from possam.d2.modeling import build_model
from possam.data.miniature.lexicon import EVERYTHING
from possam.encoders.sam import build_image_encoder
from possam.engine import load_config, prepare_datasets
from possam.layers.prompts import Prompts
from possam.vocabulary import Vocabulary
from tests.mini_scenes import iou, scenes_of_things

SIDE, SIZE = 128, (96, 128)
POINTS = Prompts(points=[[[30, 40]], [[90, 20]], [[70, 60]]])
SEVERAL = Prompts(points=[[[30, 40], [90, 20]]], labels=[[1, 0]])
BOXES = Prompts(boxes=[[10, 20, 60, 80], [5, 5, 100, 90]])


@pytest.fixture(scope="module")
def sam():
    """segment_anything's own model in little, all of it random."""
    torch.manual_seed(0)
    made = Sam(
        image_encoder=build_image_encoder("vit_tiny"),
        prompt_encoder=PromptEncoder(16, (8, 8), (SIDE, SIDE), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=16, transformer=TwoWayTransformer(2, 16, 8, 128), iou_head_hidden_dim=16
        ),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        made.mask_decoder.iou_prediction_head.layers[-1].weight *= 0.2  # so that nothing is clamped
        made.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(0.5)
    return made.eval()


@pytest.fixture(scope="module")
def build(sam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam_clip")
    torch.save(sam.state_dict(), folder / "sam.pth")
    path = str(folder / "sam.pth")
    settings = [
        "MODEL.META_ARCHITECTURE", "SamClip", "MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False",
        "MODEL.SAM.NAME", "vit_tiny", "MODEL.SAM.WEIGHTS", path, "MODEL.PROMPT_ENCODER.WEIGHTS", path,
        "MODEL.CLIP.NAME", "mini_strong", "MODEL.CLIP.WEIGHTS", "shipped", "MODEL.TEXT_CACHE", str(folder / "text"),
        "MODEL.ENSEMBLE.NAME", "clip", "INPUT.IMAGE_SIZE", str(SIDE), "DATASETS.TRAIN", "('mini_a_train',)",
    ]  # fmt: skip

    def make(*more):
        cfg = load_config("configs/base.yaml", [*settings, *more])
        prepare_datasets(cfg)
        return build_model(cfg).eval()

    return make


@pytest.fixture(scope="module")
def model(build):
    return build()


def image():
    noise = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(4))
    smooth = F.avg_pool2d(noise, 9, stride=1, padding=4)
    return (127 + 300 * smooth).clamp(0, 255).round()


def propose(model, prompts):
    (proposals,) = model.propose([{"image": image(), "prompts": prompts}])
    return proposals


def reference(sam, prompts, multimask):
    """The low-resolution logits and IoUs of segment_anything's own forward pass, N×M×h×w and N×M."""
    given = {"image": image(), "original_size": SIZE}
    if prompts.has_box.any():
        given["boxes"] = prompts.boxes
    else:
        given |= {"point_coords": prompts.points, "point_labels": prompts.labels}
    (output,) = sam([given], multimask_output=multimask)
    return output["low_res_logits"], output["iou_predictions"]


@pytest.mark.parametrize("prompts", [SEVERAL, BOXES], ids=["points", "boxes"])
def test_masks_are_those_of_sam(sam, model, prompts):
    logits, iou = reference(sam, prompts, multimask=False)
    found = propose(model, prompts)
    assert torch.allclose(found.mask_logits, logits[:, 0], atol=1e-4) and found.mask_logits.std() > 0.05
    assert torch.allclose(found.iou, iou[:, 0], atol=1e-5) and 0 < iou.min() and iou.max() < 1


def test_a_single_point_means_the_best_of_three_candidates(sam, model, build):
    logits, iou = reference(sam, POINTS, multimask=True)
    best = iou.argmax(1)
    row = torch.arange(3)
    assert torch.allclose(propose(model, POINTS).mask_logits, logits[row, best], atol=1e-4)
    one, _ = reference(sam, POINTS, multimask=False)
    single = build("MODEL.SAM_CLIP.MULTIMASK", "False")
    assert torch.allclose(propose(single, POINTS).mask_logits, one[:, 0], atol=1e-4)
    mixed = propose(model, Prompts.cat([BOXES, POINTS])).mask_logits
    assert torch.allclose(mixed, torch.cat([propose(model, one).mask_logits for one in (BOXES, POINTS)]), atol=1e-4)


def test_a_crop_is_named_by_clips_own_image_embedding(model):
    logits = torch.full((2, 32, 32), -1.0)
    logits[0, 4:12, 8:20] = 1
    padded = model._pad([image()], SIDE)
    embeddings, empty = model._embed_crops(padded, logits)
    inside = F.interpolate(logits[None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0] > 0
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    mean = model.clip.pixel_mean.view(3, 1, 1)
    crop = torch.where(inside, padded[0], mean)[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    resized = F.interpolate(crop[None], size=(96, 96), mode="bicubic", antialias=True, align_corners=False)
    normal = (resized.clamp(0, 255) - model.clip.pixel_mean) / model.clip.pixel_std
    expected = F.normalize(model.clip.model.encode_image(normal), dim=-1)
    assert torch.allclose(embeddings[0], expected[0], atol=1e-5)
    assert empty.tolist() == [False, True]
    # What is outside of the mask does not matter, even within its box.
    other = torch.where(inside, padded, 255 - padded)
    assert torch.equal(model._embed_crops(other, logits)[0][0], embeddings[0])


def test_regions_are_crops_or_features(model, build):
    by_features = build("MODEL.SAM_CLIP.REGION", "features")
    crops, features = (propose(one, BOXES) for one in (model, by_features))
    assert torch.equal(crops.mask_logits, features.mask_logits)
    maps = {"clip": by_features.encode([image()])["clip"]}
    pooled, _ = by_features.embed_masks_by_clip(features.mask_logits[None], maps)
    assert torch.allclose(features.clip_embeddings, pooled[0], atol=1e-6)
    assert not torch.allclose(crops.clip_embeddings, features.clip_embeddings, atol=1e-2)
    assert "clip" not in model.reads and "clip" in by_features.reads
    vocabulary = Vocabulary.load("mini_b")
    prediction = model.classify(crops, vocabulary, SIZE)
    text = model.text_bank.embed(vocabulary)
    expected = text.logits(crops.clip_embeddings, model.clip.logit_scale).argmax(1)
    assert torch.equal(model.segment(prediction)["prompted"]["classes"][:, 0], expected)


def test_a_file_without_a_decoder_is_refused(build, sam, tmp_path):
    encoder = {key: value for key, value in sam.state_dict().items() if key.startswith("image_encoder.")}
    torch.save(encoder, tmp_path / "encoder.pth")
    with pytest.raises(ValueError, match=r"MODEL.PROMPT_ENCODER.WEIGHTS .* must hold the model's prompt_encoder"):
        build("MODEL.PROMPT_ENCODER.WEIGHTS", str(tmp_path / "encoder.pth"))


def test_the_shipped_decoder_answers_points_and_boxes_of_things():
    predictor = Predictor(build_model(load_config("configs/mini/sam_clip.yaml", ["MODEL.TEXT_CACHE", ""])))
    ious = {"points": [], "boxes": []}
    for image, _, masks, points, boxes in scenes_of_things(EVERYTHING, 10):
        predictor.set_image(image)
        for kind, given in (("points", [[point] for point in points]), ("boxes", boxes)):
            found = predictor.prompt(**{kind: given}).masks
            ious[kind] += [iou(one, mask) for one, mask in zip(found, masks, strict=True)]
    assert np.mean(ious["points"]) > 0.5 and np.mean(ious["boxes"]) > 0.48


def test_boxes_for_clip_are_refused(model):
    with pytest.raises(ValueError, match="SamClip reads no region_boxes"):
        model.propose([{"image": image(), "prompts": BOXES, "region_boxes": BOXES.boxes}])
