"""Open-Vocabulary SAM's published files, several for one model, become it."""

import re

import pytest
import torch
import yaml
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from possam.cli import main
from possam.config import default_config
from possam.config.tree import flatten
from possam.d2.modeling import build_model
from possam.encoders.downloads import NoConnection
from possam.encoders.published_files import published_files
from possam.engine import load_config
from possam.layers.prompts import Prompts
from possam.models import OVSAM, OpenVocabularySegmenter
from possam.models.converters import (
    adapt_checkpoint,
    check_published,
    convert_checkpoint,
    download_published,
    ovsam,
)
from possam.models.state import read_checkpoint
from possam.vocabulary import Vocabulary
from tests.reference import ovsam as reference

BACK = [  # from our names to the published ones
    (r"sam2clip\.positions", "neck_student.pos_embed"),
    (r"sam2clip\.level_embedding\.", "neck_student.level_encoding."),
    (r"sam2clip\.levels\.(\d)\.", r"neck_student.patch_embeds.\1.projection."),
    (r"sam2clip\.", "neck_student."),
    (r"pyramid\.inner_blocks\.(\d)\.0\.", r"fpn_neck.lateral_convs.\1.conv."),
    (r"pyramid\.layer_blocks\.(\d)\.0\.", r"fpn_neck.fpn_convs.\1.conv."),
    (r"roi_embedding\.projection\.", "mask_decoder.roi_conv.0.conv."),
    (r"mask_decoder\.(?!label_|roi_conv)", "mask_decoder.mask_decoder."),
]


def published_names(state):
    result = {}
    for key, value in state.items():
        for pattern, theirs in BACK:
            renamed, count = re.subn("^" + pattern, theirs, key)
            if count:
                key = renamed
                break
        result[key] = value
    return result


@pytest.fixture(scope="module")
def settings():
    return ["MODEL.OVSAM.MODE", "published", "MODEL.TEXT_CACHE", "", "MODEL.TRAIN_VOCABULARY", "mini_a"]


@pytest.fixture(scope="module")
def model(settings):
    torch.manual_seed(0)
    return build_model(load_config("configs/mini/ovsam.yaml", settings)).eval()


@pytest.fixture
def miniature(monkeypatch, model):
    """The published sizes are those of the miniature."""
    flat = flatten(yaml.safe_load(model.config))
    own = {key: value for key, value in flat.items() if key.startswith("MODEL.")}
    own = {key: value for key, value in own.items() if not key.endswith(("TEXT_CACHE", "VOCABULARY"))}
    changed = {key: value for key, value in own.items() if value != flatten(default_config("OVSAM")).get(key)}
    changed.pop("MODEL.META_ARCHITECTURE", None)
    monkeypatch.setattr(ovsam, "_SETTINGS", {**ovsam._SETTINGS, **changed, "INPUT.IMAGE_SIZE": 128})
    monkeypatch.setattr(ovsam, "_WIDTHS", (32, 64, 192))
    monkeypatch.setattr(ovsam, "_EMBED_DIM", 96)


@pytest.fixture
def files(model, tmp_path):
    """The published files of the miniature, and SAM's."""
    state = published_names(model.state_dict())

    def write(name, *beginnings, wrap=False):
        found = {key: value.clone() for key, value in state.items() if key.startswith(beginnings)}
        torch.save({"state_dict": found, "meta": {"epoch": 12}} if wrap else found, tmp_path / name)
        return tmp_path / name

    return {
        "sam2clip": write("sam2clip.pth", "neck_student."),
        "coco": write("clip2sam_coco_rn50x16.pth", "fpn_neck.", "mask_decoder.", wrap=True),
        "lvis": write("clip2sam_lvis_rn50x16.pth", "fpn_neck.", "mask_decoder."),
        "decoder": write("ovsam_R50x16_lvisnorare.pth", "mask_decoder."),
        "pyramid": write("pyramid.pth", "fpn_neck.", "mask_decoder.roi_conv"),
        "prompt_encoder": write("sam.pth", "prompt_encoder."),
    }


def outputs(model):
    prompts = Prompts(points=[[[40.0, 30.0]], [[0, 0]]], labels=[[1], [-1]], boxes=[[0] * 4, [9, 9, 80, 70]],
                      has_box=[False, True])  # fmt: skip
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    (proposals,) = model.propose([{"image": image, "prompts": prompts}])
    return proposals


def test_the_names_are_the_published_ones():
    names = {*reference.student_shapes(), *reference.head_shapes()}
    shapes = {**reference.student_shapes(), **reference.head_shapes()}
    renamed = ovsam.rename({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert len(renamed) == len(names) == 205 and set(published_names(renamed)) == names
    backbone = {"backbone.stem.0.weight": 1, "backbone.stem.7.bias": 2, "backbone.head.q_proj.bias": 3}
    assert list(ovsam.rename({**backbone, "backbone.layer1.0.conv1.weight": 4})) == [
        "clip.model.visual.conv1.weight", "clip.model.visual.bn3.bias", "clip.model.visual.attnpool.q_proj.bias",
        "clip.model.visual.layer1.0.conv1.weight",
    ]  # fmt: skip


def test_a_published_file_has_the_names_and_shapes_of_the_whole_model(tmp_path):
    """At full size, on no device."""
    shapes = reference.head_shapes()
    path = tmp_path / "clip2sam_lvis_rn50x16.pth"
    torch.save({key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}, path)
    text = check_published(path)
    assert "Open-Vocabulary SAM over CLIP RN50x16, and whole: 119 tensors with 7,867,008 parameters" in text


@pytest.mark.usefixtures("miniature")
def test_several_files_become_the_model(model, files):
    weights = {role: files[role] for role in ("sam2clip", "prompt_encoder")}
    expected = outputs(model)
    for name, base in (("coco", "coco_48_17_base"), ("lvis", "lvis_866_337_base")):
        loaded = OpenVocabularySegmenter.from_pretrained(files[name], weights=weights, device="cpu", text_cache="")
        assert isinstance(loaded, OVSAM) and loaded.train_vocabulary == Vocabulary.load(base)
        found = outputs(loaded)
        assert torch.equal(found.mask_logits, expected.mask_logits)
        assert torch.equal(found.query_embeddings, expected.query_embeddings)
    split = {**weights, "pyramid": files["pyramid"]}  # as in the demo
    loaded = OpenVocabularySegmenter.from_pretrained(files["decoder"], weights=split, device="cpu", text_cache="")
    assert torch.equal(outputs(loaded).query_embeddings, expected.query_embeddings)
    assert loaded.train_vocabulary == Vocabulary.load("lvis_866_337_base")


@pytest.mark.usefixtures("miniature")
def test_what_is_missing_is_said(files):
    load = OpenVocabularySegmenter.from_pretrained
    with pytest.raises(ValueError, match=r"no sam2clip and no prompt_encoder.*sam2clip=PATH and prompt_encoder=PATH"):
        load(files["coco"], device="cpu", text_cache="")
    with pytest.raises(ValueError, match=r"holds its sam2clip alone.*clip2sam_coco.*--weights sam2clip=PATH"):
        load(files["sam2clip"], device="cpu", text_cache="")
    with pytest.raises(ValueError, match=r"holds its pyramid and roi_embedding alone.*--weights pyramid=PATH"):
        load(files["pyramid"], device="cpu", text_cache="")
    with pytest.raises(ValueError, match="holds no prompt_encoder"):
        load(files["coco"], weights={"sam2clip": files["sam2clip"]}, device="cpu", text_cache="")
    wrong = {"sam2clip": files["lvis"], "prompt_encoder": files["prompt_encoder"]}
    with pytest.raises(ValueError, match=r"MODEL\.SAM2CLIP\.WEIGHTS .*must hold the model's sam2clip, but has nothing"):
        load(files["coco"], weights=wrong, device="cpu", text_cache="")


@pytest.mark.usefixtures("miniature")
def test_a_saved_model_holds_all_but_clip(model, files, tmp_path):
    weights = {role: files[role] for role in ("sam2clip", "prompt_encoder")}
    loaded = OpenVocabularySegmenter.from_pretrained(files["coco"], weights=weights, device="cpu", text_cache="")
    folder = loaded.save_pretrained(tmp_path / "saved")
    for file in files.values():
        file.unlink()
    again = OpenVocabularySegmenter.from_pretrained(folder, text_cache="")
    assert torch.equal(outputs(again).query_embeddings, outputs(model).query_embeddings)
    with pytest.raises(ValueError, match="are given for 'sam2clip', but .* holds them itself"):
        OpenVocabularySegmenter.from_pretrained(folder, weights={"sam2clip": "x.pth"}, text_cache="")


@pytest.mark.usefixtures("miniature")
def test_a_training_takes_the_files_too(model, files, settings):
    parts = [part for role in ("sam2clip", "prompt_encoder") for part in (f"MODEL.{role.upper()}.WEIGHTS", files[role])]
    checkpoint = read_checkpoint(files["lvis"])
    torch.manual_seed(1)
    trained = build_model(load_config("configs/mini/ovsam.yaml", [*settings, *map(str, parts)]))
    adapted = adapt_checkpoint(trained, checkpoint, str(files["lvis"]))
    assert all(torch.equal(value, adapted["model"][key]) for key, value in model.state_dict().items())
    without = build_model(load_config("configs/mini/ovsam.yaml", settings))
    with pytest.raises(ValueError, match="holds no sam2clip"):
        adapt_checkpoint(without, checkpoint, str(files["lvis"]))


def test_the_published_sam2clip_wants_sams_pixel_statistics(model, files, settings, tmp_path, caplog):
    own = {key: value for key, value in model.state_dict().items() if key.startswith("sam2clip.")}
    torch.save(own, tmp_path / "own.pth")
    for path, statistics, warned in (
        (files["sam2clip"], "clip", True), (files["sam2clip"], "sam", False), (tmp_path / "own.pth", "clip", False),
    ):  # fmt: skip
        caplog.clear()
        chosen = ["MODEL.SAM2CLIP.WEIGHTS", str(path), "MODEL.OVSAM.PIXEL_STATISTICS", statistics]
        build_model(load_config("configs/mini/ovsam.yaml", [*settings, *chosen]))
        assert ("MODEL.OVSAM.PIXEL_STATISTICS sam" in caplog.text) == warned


def test_sams_decoder_is_where_a_training_starts(settings, tmp_path):
    transformer = TwoWayTransformer(depth=2, embedding_dim=64, num_heads=4, mlp_dim=256)
    sam = MaskDecoder(transformer_dim=64, transformer=transformer, iou_head_hidden_dim=64)
    torch.manual_seed(2)
    prompts = {key: torch.randn(shape) for key, shape in reference.prompt_shapes(width=64).items()}
    state = {f"prompt_encoder.{key}": value for key, value in prompts.items()}
    state |= {f"mask_decoder.{key}": value for key, value in sam.state_dict().items()}
    torch.save({**state, "image_encoder.pos_embed": torch.zeros(1)}, tmp_path / "sam.pth")
    chosen = ["MODEL.PROMPT_ENCODER.WEIGHTS", str(tmp_path / "sam.pth"), "MODEL.SAM2CLIP.STRIDE", "16"]
    for mode in ("possam", "published"):
        built = build_model(load_config("configs/mini/ovsam.yaml", [*settings, *chosen, "MODEL.OVSAM.MODE", mode]))
        own = built.mask_decoder.state_dict()
        assert all(torch.equal(value, prompts[key]) for key, value in built.prompt_encoder.state_dict().items())
        for key, value in own.items():
            if not key.startswith("label_"):
                assert torch.equal(value, sam.state_dict()[key][: len(value)]), key
        assert (set(sam.state_dict()) <= set(own)) == (mode == "possam")


def test_damaged_and_other_files_are_refused():
    with pytest.raises(ValueError, match="neck_student.other is no tensor"):
        convert_checkpoint({"model": {"neck_student.other": torch.zeros(1)}}, "x.pth")
    shapes = reference.head_shapes(channels=(256, 512, 1024, 2048), embed_dim=1024)
    state = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"reads channels \[256, 512, 1024, 2048\].*known is CLIP RN50x16 alone"):
        convert_checkpoint({"model": state}, "x.pth")
    assert published_files()["ovsam_coco"].repo == "HarborYuan/ovsam_models"


def test_a_file_of_the_hub_is_fetched_once(monkeypatch, tmp_path, capsys):
    calls = []

    def fetch(repo, filename, *, local_dir):
        calls.append((repo, filename))
        (local_dir / filename).write_bytes(b"weights")
        return str(local_dir / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    for _ in range(2):
        assert main(["weights", "download", "ovsam_lvis", "--folder", str(tmp_path)]) == 0
    assert calls == [("HarborYuan/ovsam_models", "clip2sam_lvis_rn50x16.pth")]
    assert [path.name for path in tmp_path.iterdir()] == ["clip2sam_lvis_rn50x16.pth"]
    assert "non-commercial" in capsys.readouterr().err


def test_a_hub_that_does_not_answer_is_told(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(NoConnection, match=r"cannot fetch ovsam_coco from https://huggingface.co/.* \(no route\)"):
        download_published(published_files()["ovsam_coco"], tmp_path)
