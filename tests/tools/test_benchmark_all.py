"""The benchmark of all systems, of counts that are there."""

import benchmark_all as tool
import numpy as np
import pytest
from benchmark_runs import ROOT
from sweep import Grid, build_ensembles

from possam.engine import load_config
from possam.evaluation import ImageCounts
from possam.evaluation.bootstrap import Estimate

CLASSES = ("seen", "unseen")
GROUPS = {"": np.array([True, True]), "_seen": np.array([True, False]), "_unseen": np.array([False, True])}


def counts(iou, images=20):
    """One match of this IoU for each class in every image."""
    of_image = np.array([[number, iou, 1, 0, 0] for number in range(2)], dtype=np.float64)
    return ImageCounts.from_images(range(images), [of_image] * images, class_names=CLASSES, groups=GROUPS)


@pytest.mark.parametrize("variant", tool.VARIANTS)
def test_every_variant_has_its_configuration_and_settings(variant):
    config, options, settings = tool.VARIANTS[variant]
    cfg = load_config(str(ROOT / config), list(options))
    ensembles = build_ensembles([Grid.parse(setting) for setting in settings], [""], cfg.MODEL.ENSEMBLE)
    assert list(ensembles) == list(settings)


def test_every_order_is_of_settings_that_are_scored():
    scored = {(variant, setting) for variant, of in tool.VARIANTS.items() for setting in of.settings}
    assert all({order.better, order.worse} <= scored for order in tool.ORDERS)


def test_an_order_is_seen_where_the_interval_leaves_out_zero():
    assert tool.verdict(Estimate(1.0, 0.1, 2.0)) == "yes"
    assert tool.verdict(Estimate(-1.0, -2.0, -0.1)) == "no, reversed"
    assert tool.verdict(Estimate(1.0, -0.1, 2.0)) == "not decided"


def test_tables_and_plot(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    done = []

    def run(variant, seed, output):
        done.append((variant, seed))
        best = {"PosSAM": 0.9, "no FPN": 0.7}.get(variant, 0.9)
        return {setting: counts(best) for setting in tool.VARIANTS[variant].settings}

    monkeypatch.setattr(tool, "run", run)
    monkeypatch.setattr(tool, "check_data", list)
    tool.main(["--seeds", "1", "2", "1", "--variants", "no FPN", "--no-prompts", "--output", str(tmp_path)])
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["no FPN", "mase", *["70.0 [70.0, 70.0]"] * 3, "-20.0 [-20.0, -20.0]"] in rows
    orders = {row[0]: row[-1] for row in rows}
    assert orders["FPN over resampled features"] == "yes" and orders["MASE over uniform"] == "not decided"
    assert "LDP over CLIP pooling" not in orders  # not among the variants
    assert (tmp_path / "results.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert sorted(done) == [(variant, seed) for variant in ("PosSAM", "no FPN") for seed in (1, 2)]
    assert text.startswith("2 seeds, 95 % interval over images and seeds\n")
    tool.main(["--seeds", "1", "--variants", "OPSNet", "--no-prompts", "--output", str(tmp_path)])
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.startswith("1 seed, 95 % interval over images\n") and "| modulation " in text


def test_what_is_asked_for_is_checked_before_training(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--jobs", "0"])
    assert "--jobs is 0, but must be at least 1" in capsys.readouterr().err
    monkeypatch.setattr(tool, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        tool.main([])
    assert "needs matplotlib, which is not installed" in capsys.readouterr().err
