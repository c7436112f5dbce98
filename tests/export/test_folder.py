"""What an export's folder holds, and what is refused."""

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from possam.cli import main
from possam.export import check_formats, export_model
from possam.models import PosSAM, model_spec
from possam.models import spec as spec_registry
from possam.models.state import describe_frozen
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE_WORDS
from possam.vocabulary.words import read_words, split_words


@pytest.fixture(scope="module")
def model():
    return Predictor.from_pretrained("possam-mini", text_cache="").model


@pytest.fixture
def about(exported):
    return json.loads((exported[0] / "export.json").read_text())


def test_the_folder_is_complete_and_vouched_for(exported, about):
    folder, printed = exported
    names = [f"{program}.{suffix}" for program in ("encoder", "decoder", "scorer") for suffix in ("pt2", "onnx")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "classes.npz", "export.json"])
    assert about["sha256"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted([*names, "classes.npz"])
    }
    assert all(name in printed for name in [*names, "export.json", "DIFFERENCE"])


def test_the_description_is_true(exported, about, model):
    import onnxruntime

    for name, program in about["programs"].items():
        session = onnxruntime.InferenceSession(str(exported[0] / program["files"]["onnx"][0]))
        for said, have in ((program["inputs"], session.get_inputs()), (program["outputs"], session.get_outputs())):
            assert [(spec["name"], [str(size) for size in spec["shape"]]) for spec in said] == [
                (value.name, [str(size) for size in value.shape]) for value in have
            ]
        assert list(program["files"]) == ["pt2", "onnx"] and program["files"]["pt2"] == [f"{name}.pt2"]
    (image,) = about["programs"]["encoder"]["inputs"]
    assert image == {"name": "image", "dtype": "float32", "shape": ["batch", 3, 128, 128]}
    assert about["programs"]["scorer"]["outputs"][1]["shape"] == ["batch", 24, "classes + 1"]
    assert about["image"]["size"] == 128 and about["image"]["pad_color"] == pytest.approx([123.675, 116.28, 103.53])
    assert about["constants"]["ensemble"] == "mase"
    assert about["constants"]["query_scale"] == model.classifier.scale.item()
    assert about["constants"]["clip_scale"] == model.clip.logit_scale
    assert about["fingerprints"]["frozen"] == describe_frozen(model)


def test_programs_carry_only_the_weights_they_use(exported):
    keys = {
        name: set(torch.export.load(exported[0] / f"{name}.pt2").state_dict)
        for name in ("encoder", "decoder", "scorer")
    }
    encoders = ("encoders.sam.encoder.", "encoders.clip.model.visual.")
    assert not [key for key in keys["encoder"] if not key.startswith(encoders)]
    assert not [key for key in keys["decoder"] if key.startswith(("model.sam.", "model.classifier."))]
    assert 0 < len([key for key in keys["decoder"] if key.startswith("model.clip.")]) < 10
    assert keys["scorer"] == {"classifier.void", "classifier.log_scale"}


def test_classes_can_be_written_by_themselves(exported, tmp_path, capsys):
    before = {path.name for path in exported[0].iterdir()}
    words = ["export", "possam-mini", "--output", str(tmp_path), "--only-classes"]
    assert main([*words, "--classes", "disc|coin, ring, lawn: stuff"]) == 0
    assert "3 classes are in" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["classes.npz"]
    arrays = np.load(tmp_path / "classes.npz")  # without pickles
    assert {name: arrays[name].shape for name in arrays} == {
        "text_embeddings": (4, 96),
        "class_rows": (3, 2),
        "class_seen": (3,),
        "names": (3,),
        "isthing": (3,),
    }
    assert arrays["class_rows"].tolist() == [[0, 1], [2, 2], [3, 3]]
    assert arrays["names"].tolist() == ["disc", "ring", "lawn"] and arrays["isthing"].tolist() == [True, True, False]
    assert {path.name for path in exported[0].iterdir()} == before
    assert np.load(exported[0] / "classes.npz")["names"].tolist() == list(
        read_words(split_words(SAMPLE_WORDS)).display_names
    )


def test_a_second_export_replaces_the_first(model, tmp_path, monkeypatch):
    """The description goes before any file is replaced, so that a half-replaced folder is never taken for whole."""
    import possam.export.folder as folder

    written = []
    for name in ("encoder.pt2", "encoder.onnx", "encoder.onnx.data", "notes.txt", "export.json"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(folder, "_write_programs", lambda _, made, *rest: (made / "encoder.pt2").write_text("new"))
    replace = folder.os.replace

    def watched(source, target):
        written.append((Path(target).name, (tmp_path / "export.json").exists()))
        replace(source, target)

    monkeypatch.setattr(folder.os, "replace", watched)
    export_model(model, tmp_path, formats=["pt2"])
    assert ("encoder.pt2", False) in written and written[-1] == ("export.json", False)
    assert (tmp_path / "encoder.pt2").read_text() == "new"
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["classes.npz", "encoder.pt2", "export.json", "notes.txt"]


# ---------------------------------------------------------------- refused


def test_unknown_formats(capsys, tmp_path):
    with pytest.raises(ValueError, match="no format 'onxx'.*pt2, onnx.*Did you mean 'onnx'"):
        check_formats(["onxx"])
    with pytest.raises(ValueError, match="some of"):
        check_formats([])
    with pytest.raises(ValueError, match="some of"):
        check_formats("onnx")
    assert main(["export", "possam-mini", "--output", str(tmp_path), "--formats", "tflite"]) == 1
    assert capsys.readouterr().err == "error: there is no format 'tflite' to export to; the formats are pt2, onnx.\n"


def test_missing_packages_are_named_with_what_installs_them(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else found(name))
    with pytest.raises(ValueError, match="pip install onnx onnxscript .*or leave the format out"):
        check_formats(["pt2", "onnx"])
    assert check_formats(["pt2", "pt2"]) == ("pt2",)


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot be written .*choose another folder"):
            export_model(model, path, formats=["pt2"])


def test_a_model_that_is_not_tested_on_squares_needs_a_size(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "shortest_edge", (800, 1333))
    with pytest.raises(ValueError, match=r"square images.*shorter side has 800 pixels.*give image_size"):
        export_model(model, tmp_path, formats=["pt2"])


@pytest.mark.parametrize("size", [0, -32, 100, 16])
def test_sizes(model, tmp_path, size):
    with pytest.raises(ValueError, match=f"image_size is {size}, .*multiple of 32"):
        export_model(model, tmp_path / "new", formats=["pt2"], image_size=size)
    assert not (tmp_path / "new").exists()


def test_a_model_elsewhere(model, tmp_path, monkeypatch):
    monkeypatch.setattr(PosSAM, "device", property(lambda self: torch.device("cuda:0")))
    with pytest.raises(ValueError, match=r"on cuda:0; .*model\.cpu\(\)"):
        export_model(model, tmp_path, formats=["pt2"])


def test_what_cannot_be_traced_is_named(tmp_path):
    from possam.export.programs import Program

    class Counts(torch.nn.Module):
        def forward(self, image):
            return {"half": image.expand(len(image), -1) / 2}

    image = {"image": torch.zeros(2, 3)}
    program = Program(name="encoder", module=Counts(), inputs=image, dynamic={"image": {0: "batch"}})
    with pytest.raises(ValueError, match="^torch.export cannot trace the encoder of this model: .+"):
        program.export()


def test_a_system_that_cannot_be_exported_is_refused_before_anything_is_written(model, tmp_path, monkeypatch):
    name = type(model).__name__
    monkeypatch.setitem(spec_registry._SPECS, name, replace(model_spec(name), exportable=False))
    with pytest.raises(ValueError, match=f"a {name} cannot be exported; systems that can: .+"):
        export_model(model, tmp_path / "here")
    assert not (tmp_path / "here").exists()
