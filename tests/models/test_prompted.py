"""The stages of a system that takes prompts, on SAM's own decoder over the miniature encoders."""

import itertools

import pytest
import torch
from torch.nn.functional import interpolate

from possam.config import table
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.modeling import META_ARCH_REGISTRY
from possam.data.miniature.export import export_split
from possam.data.prompts import PromptMapper
from possam.engine import load_config, prepare_datasets
from possam.engine.datasets import build_train_mapper
from possam.engine.trainer import build_train_loader, training_records
from possam.layers.prompts import Prompts
from possam.models import TestTimeAugmentation, model_spec, spec
from possam.vocabulary import Vocabulary
from tests.layouts.unnamed import make_unnamed
from tests.prompted_models import TinyPrompted

B = Vocabulary.load("mini_b")
MIXED = Prompts.cat(
    [
        Prompts(points=[[[30, 40], [90, 20]], [[70, 60], [0, 0]]], labels=[[1, 0], [1, -1]]),
        Prompts(boxes=[[10, 20, 60, 80], [5, 5, 100, 90]]),
        Prompts(points=[[[30, 40]]], boxes=[[10, 20, 60, 80]]),
    ]
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    places = {"OUTPUT_DIR": "run", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_FOLDER": "features"}
    folder = tmp_path_factory.mktemp("prompted")
    return load_config(
        "configs/mini/possam.yaml", [part for key, name in places.items() for part in (key, str(folder / name))]
    )


@pytest.fixture(scope="module")
def model(config):
    prepare_datasets(config)
    torch.manual_seed(0)
    return TinyPrompted.from_config(config)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(spec, "_SPECS", dict(spec._SPECS))
    monkeypatch.setattr(META_ARCH_REGISTRY, "_obj_map", dict(META_ARCH_REGISTRY._obj_map))
    monkeypatch.setattr(table, "_SYSTEMS", dict(table._SYSTEMS))
    spec.register_model(encoders={}, keys=())(TinyPrompted)


def image(seed=0, size=(96, 128)):
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def inputs(prompts, seed=0, **others):
    return {"image": image(seed), "vocabulary": B, "prompts": prompts, **others}


def test_every_prompt_of_every_image_has_a_mask(model):
    with torch.no_grad():
        both = model([inputs(MIXED, height=48, width=64), inputs(MIXED[:2], seed=1)])
    first, second = (output["prompted"] for output in both)
    assert list(both[0]) == ["prompted"]
    assert first["masks"].shape == (5, 48, 64) and second["masks"].shape == (2, 96, 128)
    assert first["classes"].shape == (5, 5) and first["iou"].shape == (5,)
    # The mask is that of segment_anything's parts alone, brought to the image's size.
    embedding = model.sam(model._pad([image()], 128), strides=(8,))[8] * 2
    with torch.no_grad():
        logits, iou = model.decode_prompts(embedding, MIXED)
    restored = interpolate(logits, (128, 128), mode="bilinear")[..., :96, :]
    expected = interpolate(restored, (48, 64), mode="bilinear")[0] > 0
    assert (first["masks"] != expected).float().mean() < 1e-4 and torch.allclose(first["iou"], iou[0])


def test_chunks_give_what_all_at_once_gives(model, monkeypatch):
    many = Prompts.cat([MIXED] * 3)
    whole = model.propose([inputs(many)])[0]
    monkeypatch.setattr(TinyPrompted, "prompts_at_once", 4)
    seen = []
    monkeypatch.setattr(
        TinyPrompted, "predict_masks", lambda *a, own=TinyPrompted.predict_masks: seen.append(len(a[2])) or own(*a)
    )
    cut = model.propose([inputs(many)])[0]
    assert seen == [4, 4, 4, 3]
    for name, value in whole.tensors.items():
        assert torch.allclose(value.float(), getattr(cut, name).float(), atol=1e-5), name
    assert torch.equal(whole[torch.tensor([4, 1])].iou, whole.iou[[4, 1]])


def test_an_encoded_image_is_not_encoded_again(model):
    before = model.encoded, model.prepared
    expected = model.propose([inputs(MIXED)])[0]
    encoded = {role: {s: maps[0] for s, maps in levels.items()} for role, levels in model.encode([image()]).items()}
    assert (model.encoded, model.prepared) == (before[0] + 2, before[1] + 1)
    found = model.propose([inputs(MIXED, features=encoded)])[0]
    assert model.encoded == before[0] + 2 and torch.equal(found.mask_logits, expected.mask_logits)
    prepared, padded = model.prepare_image(image())
    again = model.propose_prompts(prepared, MIXED, padded_size=padded, image_size=(96, 128))
    assert torch.equal(again.mask_logits, expected.mask_logits) and again.image_size == expected.image_size


def test_mistakes_are_named(model, mini_model):
    with pytest.raises(ValueError, match="TinyPrompted needs prompts: give at least one point or box"):
        model.propose([inputs(MIXED), {"image": image(), "vocabulary": B}])
    with pytest.raises(ValueError, match="TinyPrompted needs prompts"):
        model.propose([inputs(MIXED[:0])])
    with pytest.raises(ValueError, match="inside the image of 128×96 pixels"):
        model.propose([inputs(Prompts(points=[[[5, 96]]]))])
    with pytest.raises(ValueError, match="PosSAM takes no prompts: it finds all masks of an image itself"):
        mini_model.eval().propose([inputs(MIXED)])


def test_views_are_not_joined(model):
    with pytest.raises(ValueError, match="TinyPrompted makes a mask for each prompt.*set TEST.AUG.ENABLED False"):
        TestTimeAugmentation(model, scales=[1.0], flip=True)


def test_the_registry_knows_who_takes_prompts(config, registered):
    assert model_spec("TinyPrompted").prompts and not model_spec("PosSAM").prompts
    cfg = config.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "TinyPrompted"
    assert isinstance(build_train_mapper(cfg, cfg.DATASETS.TRAIN[0], None), PromptMapper)
    assert not isinstance(build_train_mapper(config, config.DATASETS.TRAIN[0], None), PromptMapper)


def test_training_brings_prompts_with_names_and_without(config, model, registered, miniature, tmp_path):
    export_split("mini_a_train", root=tmp_path, scenes=3)
    miniature(tmp_path)
    make_unnamed(tmp_path / "unnamed", images=1, size=(96, 128))
    cfg = config.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "TinyPrompted"
    cfg.DATASETS.UNNAMED = [
        {"name": "unnamed", "image_root": str(tmp_path / "unnamed"), "image_suffix": ".png", "vocabulary": "mini_a"}
    ]
    cfg.DATASETS.TRAIN = ("mini_a_train", "unnamed")
    cfg.SOLVER.IMS_PER_BATCH = 4
    prepare_datasets(cfg)
    records = training_records(cfg)
    assert len(records) == 4
    (batch, other), (same, _) = (
        itertools.islice(build_train_loader(cfg, [*records], None), 2) for _ in range(2)
    )
    labels = {inputs["file_name"]: inputs["instances"].gt_classes for inputs in batch}
    assert len(labels) == 4
    for name, classes in labels.items():
        assert len(classes) == 40 and ((classes == -1).all() if "unnamed" in name else (classes >= 0).all())
    for one, two in zip(batch, same, strict=True):  # what is drawn follows from the seed
        assert one["file_name"] == two["file_name"] and torch.equal(one["prompts"].points, two["prompts"].points)
    again = {inputs["file_name"]: inputs["prompts"].points for inputs in other}
    assert any(not torch.equal(inputs["prompts"].points, again[inputs["file_name"]]) for inputs in batch)
    loss = model.train()(batch[:1])["loss_mask"]
    loss.backward()
    model.eval()
    assert loss.isfinite() and model.mask_decoder.mask_tokens.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.sam.parameters())
    DatasetCatalog.remove("unnamed")
    MetadataCatalog.remove("unnamed")
