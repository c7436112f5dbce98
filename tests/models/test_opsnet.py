"""OPSNet: what its trained backbone and its options change of a system on frozen encoders alone."""

import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import build_ensemble
from possam.d2.modeling import build_model
from possam.d2.structures import Instances
from possam.engine import load_config, prepare_datasets
from possam.engine.optimizer import build_optimizer
from possam.models import OpenVocabularySegmenter, top_names
from possam.vocabulary import Vocabulary

A = Vocabulary.load("mini_a")
B = Vocabulary.load("mini_b")


def build(tmp_path, *settings):
    places = ["OUTPUT_DIR", str(tmp_path / "run"), "MODEL.TEXT_CACHE", str(tmp_path / "text")]
    small = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "6", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"]
    cfg = load_config("configs/mini/opsnet.yaml", [*places, *small, *settings])
    prepare_datasets(cfg)
    torch.manual_seed(0)
    return cfg, build_model(cfg).eval()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("opsnet"))


def image():
    return torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def training_input():
    instances = Instances((96, 128))
    instances.gt_classes = torch.tensor([1])
    instances.gt_masks = torch.zeros(1, 96, 128, dtype=torch.bool)
    instances.gt_masks[0, 10:40, 20:70] = True
    return {"image": image(), "vocabulary": A, "instances": instances}


def test_the_backbone_is_trained_saved_and_not_cached(built, tmp_path):
    cfg, model = built
    assert set(model.reads) == set(model.encode([image()])) == {"clip"}
    maps = model.encode_trained([image()])["backbone"]
    assert {stride: tuple(values.shape[1:]) for stride, values in maps.items()} == {
        stride: (width, 128 // stride, 128 // stride) for stride, width in model.backbone.out_channels.items()
    }
    assert all(values.requires_grad for values in maps.values())
    loaded = OpenVocabularySegmenter.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    saved, own = loaded.backbone.state_dict(), model.backbone.state_dict()
    assert own and all(torch.equal(value, saved[key]) for key, value in own.items())
    assert not any(key.startswith("clip.") for key in model.state_dict())


def test_the_backbone_has_its_factor_of_the_learning_rate(tmp_path):
    cfg, model = build(tmp_path, "SOLVER.BACKBONE_MULTIPLIER", "0.1", "SOLVER.BASE_LR", "1.0")
    rates = {id(p): group["lr"] for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.backbone.parameters()} == {0.1}
    assert {rates[id(p)] for p in model.pixel_decoder.parameters()} == {1.0}


def test_images_are_padded_with_the_backbones_mean(built):
    _, model = built
    padded = model._pad([image()], None)
    assert padded.shape == (1, 3, 128, 128)
    assert torch.equal(padded[0, :, -1, -1], torch.tensor([123.675, 116.28, 103.53]))


def test_queries_attend_to_clip_and_masks_are_pooled_from_it(built):
    """METHOD.md 2.2 and 2.4, from the parts."""
    _, model = built
    features = model.encode([image()]) | model.encode_trained([image()])
    dense = features["clip"][model.clip.final_stride]
    with torch.no_grad():
        proposed = model.predict_masks(features)
        (final,), _ = model.decode(features)
        cells = model.clip.project(dense[0].flatten(1).T).unflatten(0, dense.shape[-2:])
        expected = F.normalize(model.query_embedding(final.queries, final.mask_logits, cells[None]), dim=-1)
    torch.testing.assert_close(proposed["query_embeddings"], expected, atol=1e-5, rtol=1e-4)
    logits = F.interpolate(final.mask_logits, size=dense.shape[-2:], mode="bilinear")[0]
    for query, inside in enumerate(logits > 0):
        if inside.any():
            pooled = model.clip.project(dense[0][:, inside].mean(dim=1))
            torch.testing.assert_close(proposed["clip_embeddings"][0, query], pooled, atol=1e-5, rtol=1e-4)


def test_on_the_training_vocabulary_it_is_the_query_alone_at_a_fixed_temperature(built):
    """Tables 1 and 4: the same COCO results with and without modulation."""
    _, model = built
    (prediction,) = model.predict([{"image": image(), "vocabulary": A}])
    assert prediction.inputs.query_scale == 100
    torch.testing.assert_close(model.score(prediction), model.score(prediction, "ldp"), atol=1e-5, rtol=1e-4)
    (other,) = model.predict([{"image": image(), "vocabulary": B}])
    assert (model.score(other) - model.score(other, "ldp")).abs().max() > 1e-3


def test_on_the_training_vocabulary_modulation_changes_no_bit(built):
    """s is 1 and all logits are divided by 1 (METHOD.md 2.5, 2.6)."""
    _, model = built
    (prediction,) = model.predict([{"image": image(), "vocabulary": A}])
    query, modulated = (build_ensemble("modulation", ratio=a, debias=b) for a, b in ((0.0, 0.0), (10.0, 0.5)))
    assert torch.equal(modulated(prediction.inputs), query(prediction.inputs))


def labeled_match(model, inputs, embeddings, final, ratio):
    """L_match of METHOD.md 2.9, mask by mask, from class embeddings Q×D and the final prediction of one image."""
    dense = model.encode([inputs["image"]])["clip"][model.clip.final_stride][0]
    names, known = (model.text_bank.embed(words).embeddings for words in (inputs["vocabulary"], A))
    s = sum(max(float(name @ other) for other in known) for name in names) / len(names)
    inside = F.interpolate(final.mask_logits, size=dense.shape[-2:], mode="bilinear")[0] > 0
    valid = [q for q in range(len(embeddings)) if final.iou[0, q] >= 0.5] or [int(final.iou.argmax())]
    rows = []
    for query in valid:
        embedding = F.normalize(embeddings[query], dim=0)
        if inside[query].any():
            embedding = embedding + ratio * (1 - s) * model.clip.project(dense[:, inside[query]].mean(dim=1))
        rows.append((100 * F.normalize(embedding, dim=0) @ names.T).softmax(-1))
    return -sum(max(row[label] for row in rows).log() for label in inputs["labels"].tolist()) / len(inputs["labels"])


@pytest.mark.parametrize(("embedding", "ratio"), [("modulated", 10.0), ("query", 0.0)])
def test_labels_are_compared_with_modulated_or_query_embeddings(embedding, ratio, tmp_path):
    _, model = build(tmp_path, "MODEL.OPSNET.LABEL_EMBEDDING", embedding)
    model.train()
    inputs = {"image": image(), "vocabulary": B, "labels": torch.tensor([1, 20, 33])}
    features = model.encode([image()]) | model.encode_trained([image()])
    layers, mask_features = model.decode(features)
    embeddings = model.embed_masks(layers, mask_features, features)[-1, 0]
    expected = labeled_match(model, inputs, embeddings, layers[-1], ratio)
    losses = model([inputs, training_input()])
    torch.testing.assert_close(losses["loss_match"], expected, atol=1e-4, rtol=1e-4)
    of_own = model([{**inputs, "vocabulary": A, "labels": torch.tensor([2])}])["loss_match"]
    without = -(100 * F.normalize(embeddings, dim=-1) @ model.text_bank.embed(A).embeddings.T).log_softmax(-1)
    kept = layers[-1].iou[0] >= 0.5
    kept[layers[-1].iou[0].argmax()] = True
    torch.testing.assert_close(of_own, without[kept, 2].min(), atol=1e-4, rtol=1e-4)


def test_mask_filters_rank_by_class_score_iou_or_both(built, monkeypatch):
    _, model = built
    (prediction,) = model.predict([{"image": image(), "vocabulary": B}])
    plain, iou = model.find_ensemble("clip")(prediction.inputs), prediction.inputs.iou
    for name, expected in {"": plain, "cls": plain, "cls_iou": plain * iou[:, None]}.items():
        monkeypatch.setattr(model, "mask_filter", name)
        assert torch.equal(model.score(prediction, "clip"), expected)
    monkeypatch.setattr(model, "mask_filter", "iou")
    torch.testing.assert_close(model.score(prediction, "clip").amax(dim=1), iou)


def test_the_best_names_of_a_mask_have_their_filtered_scores(built, monkeypatch):
    _, model = built
    (proposals,) = model.propose([{"image": image()}])
    inputs = model.classify(proposals, B, (96, 128)).inputs
    for name in ("", "cls", "iou", "cls_iou"):
        monkeypatch.setattr(model, "mask_filter", name)
        expected = model.score_inputs(inputs).topk(3)
        scores, classes = top_names(model, proposals, B, k=3, classes_per_part=10)
        torch.testing.assert_close(scores, expected.values, atol=1e-5, rtol=1e-4)
        assert torch.equal(classes, expected.indices)


@pytest.mark.parametrize("kind", ["masking", "cropping"])
def test_clips_embeddings_may_come_from_masked_or_cropped_images(kind, tmp_path):
    _, model = build(tmp_path, "MODEL.CLIP.MASK_EMBEDDING", kind)
    (proposals,) = model.propose([{"image": image()}])
    embeddings, empty = model.image_embedder(model.clip, [image()], proposals.mask_logits[None])
    assert torch.equal(proposals.clip_embeddings, embeddings[0]) and torch.equal(proposals.clip_empty, empty[0])


def test_without_cross_attention_queries_do_not_see_clip(tmp_path):
    _, model = build(tmp_path, "MODEL.OPSNET.CROSS_ATTENTION", "False")
    assert not any("cross" in name for name, _ in model.query_embedding.named_parameters())
    losses = model.train()([training_input()])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MODEL.BACKBONE.NAME", "resnet"], r"MODEL\.BACKBONE\.NAME is 'resnet', but must be one of: .*resnet50"),
        (["MODEL.BACKBONE.WEIGHTS", "nowhere.pth"], r"MODEL\.BACKBONE\.WEIGHTS .*nowhere.pth' is neither a file nor"),
        (["TEST.MASK_FILTER", "iuo"], "TEST.MASK_FILTER is 'iuo', but must be one of"),
        (["MODEL.MASK_FORMER.IOU_HEAD", "False"], "TEST.MASK_FILTER is cls_iou, but MODEL.MASK_FORMER.IOU_HEAD is"),
        (["MODEL.MASK_FORMER.IOU_WEIGHT", "0.0"], "IOU_WEIGHT is 0, so that the IoU head would stay random"),
        (["MODEL.OPSNET.TEMPERATURE", "0.0"], "MODEL.OPSNET.TEMPERATURE is 0.0, but must be above 0"),
        (["MODEL.CLIP.MASK_EMBEDDING", "crop"], "MODEL.CLIP.MASK_EMBEDDING is 'crop', but must be one of: pooling"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_config("configs/mini/opsnet.yaml", settings)
