"""What every registered system has to do, on a miniature of it."""

import re
from functools import partial

import pytest
import torch

from possam.config import check_values
from possam.d2.modeling import build_model
from possam.d2.structures import Instances
from possam.data.miniature.export import export_split
from possam.encoders import FrozenEncoder
from possam.encoders.feature_cache import FeatureCache, write_shard
from possam.engine import Trainer, load_config, prepare_datasets
from possam.engine.optimizer import build_optimizer
from possam.export import compare, export_model, vocabulary_arrays
from possam.export.formats import OLDEST_TORCH
from possam.layers.prompts import Prompts
from possam.models import OpenVocabularySegmenter, TestTimeAugmentation, model_spec, model_specs
from possam.models.batch import stack_features
from possam.models.state import check_frozen, describe_frozen, load_checkpoint
from possam.vocabulary import Vocabulary
from tests.mini_configs import mini_config

A = Vocabulary.load("mini_a")
B = Vocabulary.load("mini_b")
TASKS = ("panoptic", "semantic", "instance")
SPECS = [spec for spec in model_specs() if spec.model.__module__.startswith("possam.")]
MINIATURE = {
    "PosSAM": ["MODEL.SAM.NAME", "mini", "MODEL.SAM.WEIGHTS", "shipped", "MODEL.LDP.HEADS", "4"],
    "SamClip": [
        "MODEL.SAM.NAME", "mini", "MODEL.SAM.WEIGHTS", "shipped", "MODEL.ENSEMBLE.NAME", "clip",
        "MODEL.CLIP.NAME", "mini_strong", "MODEL.CLIP.WEIGHTS", "shipped", "MODEL.SAM_CLIP.REGION", "features",
        "MODEL.DEVICE", "cpu", "INPUT.IMAGE_SIZE", "128", "SOLVER.AMP.ENABLED", "False", "DATALOADER.NUM_WORKERS", "0",
    ],
    "FcClip": ["MODEL.MASK_FORMER.IOU_HEAD", "False", "MODEL.ENSEMBLE.NAME", "geometric"],
    "OPSNet": [
        "MODEL.BACKBONE.NAME", "mini_r", "MODEL.OPSNET.NHEADS", "4", "MODEL.MASK_FORMER.IOU_HEAD_LAYERS", "1",
        "MODEL.ENSEMBLE.NAME", "modulation", "TEST.MASK_FILTER", "cls_iou",
    ],
}  # fmt: skip
"""Settings over `mini_config`."""
SMALL = [
    "TEST.ENSEMBLES", "[]",
    "DATASETS.TRAIN", "('mini_a_train',)", "DATASETS.TEST", "()",
    "TEST.TASKS", str(list(TASKS)), "TEST.NUM_VISUALIZATIONS", "0",
]  # fmt: skip


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request):
    return request.param


@pytest.fixture
def cfg(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = {"OUTPUT_DIR": "run", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_CACHE_DIR": "features"}
    settings = [part for key, name in places.items() for part in (key, str(tmp_path / name))]
    chosen = ["MODEL.META_ARCHITECTURE", spec.name, *MINIATURE.get(spec.name, [])]
    chosen += ["MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64"] if spec.trainable else []
    chosen += [] if spec.prompts else ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8"]
    cfg = load_config(mini_config(spec.name), [*SMALL, *settings, *chosen])
    prepare_datasets(cfg)
    return cfg


@pytest.fixture
def model(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    model.postprocessor.object_threshold = 0.0  # untrained masks are uncertain
    return model.eval()


def image(seed=0):
    return torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def prompts():
    """Eight: points, pairs of points, and boxes."""
    place = torch.arange(1, 9)[:, None, None] * torch.tensor([[[12.0, 9.0], [4.0, 11.0]]])
    labels = torch.tensor([[1, -1], [1, 0], [-1, -1], [1, 1]]).repeat(2, 1)
    boxes = torch.tensor([[10.0, 20.0, 70.0, 60.0]]).repeat(8, 1)
    return Prompts(points=place, labels=labels, boxes=boxes, has_box=(labels == -1).all(1))


def inputs(spec, vocabulary=B):
    found = {"image": image(), "vocabulary": vocabulary, "height": 48, "width": 64}
    return {**found, "prompts": prompts()} if spec.prompts else found


def training_input(spec):
    instances = Instances((96, 128))
    instances.gt_classes = torch.tensor([0, 3])
    instances.gt_masks = torch.zeros(2, 96, 128, dtype=torch.bool)
    instances.gt_masks[0, 10:40, 20:70] = instances.gt_masks[1, 50:90, 60:120] = True
    found = {"image": image(), "vocabulary": A, "instances": instances}
    return {**found, "prompts": prompts()[:2]} if spec.prompts else found


def frozen_tensors(model):
    """Addresses of the tensors of all frozen encoders."""
    encoders = [module for module in model.modules() if isinstance(module, FrozenEncoder)]
    assert encoders
    return {tensor.data_ptr() for encoder in encoders for tensor in encoder.state_dict(keep_vars=True).values()}


def assert_same_outputs(first, second):
    if "prompted" in first:
        assert all(torch.equal(values, second["prompted"][key]) for key, values in first["prompted"].items())
        return
    assert torch.equal(first["panoptic_seg"][0], second["panoptic_seg"][0])
    assert first["panoptic_seg"][1] == second["panoptic_seg"][1]
    assert torch.equal(first["semantic_seg"], second["semantic_seg"])
    assert torch.equal(first["instances"].scores, second["instances"].scores)
    assert torch.equal(first["instances"].pred_masks, second["instances"].pred_masks)


def test_the_spec_tells_of_the_model(spec, model):
    assert model_spec(spec.name) is spec and type(model) is spec.model
    assert isinstance(model, OpenVocabularySegmenter)
    assert set(model.frozen_encoders) == set(spec.encoders) == set(spec.weights) == set(describe_frozen(model))
    for role, encoder in model.frozen_encoders.items():
        assert isinstance(encoder, spec.encoders[role])
        assert set(model.reads.get(role, ())) <= set(encoder.out_channels)


def test_one_step_trains_every_trained_parameter_and_no_other_one(spec, cfg, model):
    if not spec.trainable:
        assert not any(parameter.requires_grad for parameter in model.parameters())
        with pytest.raises(ValueError, match=f"{spec.name} has nothing to train"):
            model.train()([training_input(spec)])
        return
    frozen = frozen_tensors(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = build_optimizer(cfg, model)
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    ours = {id(parameter) for parameter in model.parameters() if parameter.data_ptr() not in frozen}
    assert trained < ours if spec.parts else trained == ours
    losses = model.train()([training_input(spec)])
    assert losses and all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    sum(losses.values()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        own = id(parameter) in trained
        assert (parameter.grad is not None) == own, name
        assert own or torch.equal(parameter, before[name]), name
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.9 * len(trained)
    assert not any(module.training for module in model.modules() if isinstance(module, FrozenEncoder))


def test_images_with_labels_only_teach_every_trained_parameter(spec, model):
    if spec.prompts:
        pytest.skip("makes masks of prompts")
    labeled = {"image": image(1), "vocabulary": B, "labels": torch.tensor([0, 5, 33])}
    losses = model.train()([training_input(spec), labeled])
    assert {"loss_match", "loss_sum"} == losses.keys() - model([training_input(spec)]).keys()
    (losses["loss_match"] + losses["loss_sum"]).backward()
    taught = [name for name, one in model.named_parameters() if one.grad is not None and one.grad.any()]
    assert len(taught) > 0.8 * len(model.state_dict())
    model.zero_grad()
    sum(model([labeled]).values()).backward()  # as in a process that has no other image
    frozen = frozen_tensors(model)
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.data_ptr() not in frozen)


def test_frozen_encoders_stay_out_of_the_optimizer_when_their_gradients_are_switched_on(cfg, model):
    model.requires_grad_(True)
    in_optimizer = {p.data_ptr() for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    assert not in_optimizer & frozen_tensors(model)


def test_the_state_dict_has_the_trained_values_alone_and_loads_strictly(model):
    frozen, state = frozen_tensors(model), model.state_dict()
    assert state and not {value.data_ptr() for value in state.values()} & frozen
    assert {name for name, value in model.named_parameters() if value.data_ptr() not in frozen} <= set(state)
    assert model.load_state_dict(state, strict=True).missing_keys == []
    del state[key := next(iter(state))]
    with pytest.raises(RuntimeError, match=re.escape(key)):
        model.load_state_dict(state, strict=True)


def test_a_saved_model_comes_back_equal(spec, model, tmp_path):
    folder = model.save_pretrained(tmp_path / "saved")
    loaded = OpenVocabularySegmenter.from_pretrained(folder)
    assert type(loaded) is type(model) and loaded.train_vocabulary == model.train_vocabulary
    assert loaded.state_dict().keys() == model.state_dict().keys()
    loaded.postprocessor.object_threshold = 0.0
    assert_same_outputs(*(one([inputs(spec)])[0] for one in (model, loaded)))


def test_the_same_proposals_are_named_in_any_vocabulary(spec, model):
    (proposals,) = model.propose([inputs(spec)])
    predictions = [model.classify(proposals, vocabulary, (48, 64)) for vocabulary in (A, B)]
    for prediction, vocabulary in zip(predictions, (A, B), strict=True):
        assert model.score(prediction).shape == (8, len(vocabulary))
        output = model.segment(prediction, tasks=("prompted",) if spec.prompts else TASKS)
        assert_same_outputs(output, model([inputs(spec, vocabulary)])[0])
        if spec.prompts:
            assert output["prompted"]["masks"].shape == (8, 48, 64)
            assert output["prompted"]["classes"].max() < len(vocabulary)
            continue
        assert output["panoptic_seg"][0].shape == output["semantic_seg"].shape == (48, 64)
        assert output["semantic_seg"].max() < len(vocabulary)
    assert torch.equal(predictions[0].mask_logits, predictions[1].mask_logits)


def test_several_views_become_one_segmentation(spec, model):
    if spec.prompts:
        with pytest.raises(ValueError, match="makes a mask for each prompt"):
            TestTimeAugmentation(model, scales=[1.0], flip=True)
        return
    plain = TestTimeAugmentation(model, scales=[1.0], flip=False)
    assert_same_outputs(plain.segment(plain.predict([inputs(spec)])[0], tasks=TASKS), model([inputs(spec)])[0])
    views = TestTimeAugmentation(model, scales=[0.5, 1.0], flip=True)
    (predictions,) = views.predict([inputs(spec)])
    assert len(predictions) == 4
    output = views.segment(predictions, tasks=TASKS)
    assert output["panoptic_seg"][0].shape == output["semantic_seg"].shape == (48, 64)


def test_exports_what_it_computes_or_says_that_it_cannot(spec, model, tmp_path):
    if not spec.exportable:
        with pytest.raises(ValueError, match=f"a {spec.name} cannot be exported"):
            export_model(model, tmp_path)
        return
    if torch.__version__ < OLDEST_TORCH:
        with pytest.raises(ValueError, match="exporting needs torch 2.9 or later"):
            export_model(model, tmp_path)
        return
    export_model(model, tmp_path, formats=["pt2"])
    square = torch.nn.functional.pad(image(), (0, 0, 0, 32))[None].float()
    differences = compare(model, tmp_path, square, vocabulary_arrays(model, B))
    assert {each.output for each in differences} >= {"mask_logits", "query_embeddings", "scores", "query_logits"}
    assert {each for each in differences if not each.relative < 1e-5} == set()


def test_other_encoders_than_those_of_the_training_are_refused(spec, cfg, model):
    parameters = model.state_dict()
    for role in spec.encoders:
        others = describe_frozen(model)
        others[role] = {**others[role], "fingerprint": "0" * 64}
        with pytest.raises(ValueError, match=rf"MODEL\.{role.upper()}\.WEIGHTS"):
            load_checkpoint(model, {"model": parameters, "frozen": others}, "it")
        without = {key: value for key, value in describe_frozen(model).items() if key != role}
        with pytest.raises(ValueError, match=f"no frozen {role.upper()}"):
            check_frozen(model, without, "it")
        cfg.MODEL[role.upper()].NAME = "no_such_encoder"
        with pytest.raises(ValueError, match=rf"MODEL\.{role.upper()}\.NAME is 'no_such_encoder'"):
            check_values(cfg)
        cfg.MODEL[role.upper()].NAME = others[role]["name"]
    more = {**describe_frozen(model), "other": {"name": "another", "fingerprint": "1"}}
    with pytest.raises(ValueError, match="no frozen OTHER"):
        check_frozen(model, more, "it")
    load_checkpoint(model, {"model": parameters, "frozen": describe_frozen(model)}, "it")


def test_cached_features_are_those_that_the_model_encodes(spec, model, tmp_path):
    write_shard(tmp_path, 0, [[("one", image()), ("two", image(1))]], partial(model.encode, roles=model.cached_roles))
    cache = FeatureCache(folder=tmp_path, samples=2)
    direct = model.encode([image(), image(1)])
    for index, key in enumerate(("one", "two")):
        cached = cache.get(key)
        assert set(cached) == set(model.cached_roles)
        assert all(set(maps) == set(model.reads[role]) for role, maps in cached.items())
        for role, maps in cached.items():
            for stride, values in maps.items():
                assert torch.equal(values, direct[role][stride][index].half())
    (proposals,) = model.propose([{**inputs(spec), "features": cache.get("one")}])
    whole = model.encode([image()]) | stack_features([cache.get("one")], model.reads, model.device)
    by_hand = {role: {stride: values[0].cpu() for stride, values in maps.items()} for role, maps in whole.items()}
    (expected,) = model.propose([{**inputs(spec), "features": by_hand}])
    assert torch.equal(proposals.mask_logits, expected.mask_logits)


def test_a_resumed_training_is_the_uninterrupted_one(spec, cfg, miniature, tmp_path):
    if not spec.trainable:
        with pytest.raises(ValueError, match=f"{spec.name} has nothing to train: .* Evaluate it"):
            Trainer(cfg)
        return
    export_split("mini_a_train", root=tmp_path, scenes=3)
    miniature(tmp_path)
    solver = cfg.SOLVER
    solver.IMS_PER_BATCH, solver.MAX_ITER, solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD = 2, 2, 0, 1

    def run(name, resume):
        cfg.OUTPUT_DIR = str(tmp_path / name)
        prepare_datasets(cfg)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return torch.load(tmp_path / name / "model_final.pth", weights_only=True)

    whole = run("whole", resume=False)
    (tmp_path / "half").mkdir()
    (tmp_path / "whole" / "model_0000000.pth").rename(tmp_path / "half" / "model_0000000.pth")
    (tmp_path / "half" / "last_checkpoint").write_text("model_0000000.pth")
    resumed = run("half", resume=True)
    assert whole["model"].keys() == resumed["model"].keys()
    assert all(torch.equal(value, resumed["model"][key]) for key, value in whole["model"].items())
    assert whole["frozen"].keys() == model_spec(cfg.MODEL.META_ARCHITECTURE).encoders.keys()
