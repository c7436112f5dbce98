"""A trainer's checkpoint becomes a folder that loads on another machine."""

import json
import re
import runpy

import pytest
import torch
import yaml
from safetensors import safe_open

from possam.engine import Checkpointer
from possam.models import PosSAM


def export(monkeypatch, *arguments):
    """Run the script as `python tools/export_pretrained.py` does; returns what it exits with."""
    monkeypatch.setattr("sys.argv", ["export_pretrained.py", *arguments])
    try:
        runpy.run_path("tools/export_pretrained.py", run_name="__main__")
    except SystemExit as end:
        return str(end.code)
    return ""


@pytest.fixture
def run(mini_model, mini_config, tmp_path):
    """What a training on CUDA devices leaves: checkpoint, configuration, results."""
    folder = tmp_path / "run"
    folder.mkdir()
    Checkpointer(mini_model, str(folder)).save("model_final", iteration=1)
    cfg = mini_config.clone()
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cuda", True
    (folder / "config.yaml").write_text(cfg.dump())
    report = {"panoptic_seg": {"PQ": 12.34}, "provenance": {"seed": 1}}
    (folder / "results.json").write_text(json.dumps({"datasets": {"mini_b_report": report}, "provenance": {}}))
    (folder / "other").mkdir()
    (folder / "other" / "results.json").write_text(json.dumps({"sem_seg": {"mIoU": 56.78}}))
    return folder


def test_exports_what_the_trainer_saved_from_any_machine(run, mini_model, tmp_path, monkeypatch):
    results = ["--results", str(run / "results.json"), "--results", str(run / "other" / "results.json")]
    weights = ["MODEL.WEIGHTS", str(run / "model_final.pth")]
    options = ["--dtype", "float16", "--output", str(tmp_path / "exported"), *results]
    more = tmp_path / "more.yaml"
    more.write_text("TEST: {DETECTIONS_PER_IMAGE: 77}\n")
    files = ["--config-file", str(run / "config.yaml"), "--config-file", str(more)]
    assert export(monkeypatch, *files, *options, *weights) == ""
    folder = tmp_path / "exported"
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("classifier.void").dtype == torch.float16
    config = yaml.safe_load((folder / "config.yaml").read_text())
    # Exported on a CPU, it goes to the GPU where there is one.
    assert config["TEST"]["DETECTIONS_PER_IMAGE"] == 77
    assert config["MODEL"]["DEVICE"] == "cuda" and config["SOLVER"]["AMP"]["ENABLED"] is True
    card = (folder / "README.md").read_text()
    assert "| mini_b_report | 12.3 | –" in card and "| other         | –    | 56.8" in card
    loaded = PosSAM.from_pretrained(folder, device="cpu", text_cache="")
    for key, value in mini_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().to(value.dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: There are no trained parameters to export; add `MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS", "nothing.pth"], "error: No checkpoint at nothing.pth"),
        (["MODEL.CLIP.NAME", "mini_weak", "MODEL.WEIGHTS", "{run}/model_final.pth"], "error: The checkpoint .* CLIP"),
    ],
)
def test_a_mistake_is_one_sentence(run, tmp_path, monkeypatch, arguments, message):
    arguments = [argument.format(run=run) for argument in arguments]
    output = ["--output", str(tmp_path / "exported")]
    end = export(monkeypatch, "--config-file", str(run / "config.yaml"), *output, *arguments)
    assert re.match(message, end) and "\n" not in end
    assert not (tmp_path / "exported").exists()


def test_uploads_where_asked(run, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(PosSAM, "push_to_hub", lambda _, repo, **options: calls.append((repo, options)) or "address")
    options = ["--output", str(tmp_path / "exported"), "--push-to-hub", "someone/model", "--private"]
    weights = ["MODEL.WEIGHTS", str(run / "model_final.pth")]
    assert export(monkeypatch, "--config-file", str(run / "config.yaml"), *options, *weights) == ""
    assert [(repo, options["private"], options["dtype"]) for repo, options in calls] == [
        ("someone/model", True, torch.float32)
    ]
    assert "Uploaded to address" in capsys.readouterr().out
