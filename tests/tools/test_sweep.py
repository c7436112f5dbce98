"""The sweep over constants on a few scenes."""

import pytest
import torch

from possam.d2.modeling import build_model
from possam.data.miniature.export import export_split
from possam.engine import load_config, prepare_datasets
from possam.models import OPSNet
from possam.models.state import describe_frozen
from tests.classifiers.conftest import _inputs as make_inputs
from tools import sweep as tool

CONFIG = "configs/mini/opsnet.yaml"
GRID = "modulation ratio=0,10 debias=0,0.5"


@pytest.fixture
def settings(tmp_path, miniature):
    export_split("mini_b_report", root=tmp_path, scenes=3)
    miniature(tmp_path)
    places = {"OUTPUT_DIR": "out", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_CACHE_DIR": "features"}
    chosen = [part for key, name in places.items() for part in (key, str(tmp_path / name))]
    chosen += ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0", "TEST.TASKS", "['panoptic']"]
    cfg = load_config(CONFIG, chosen)
    prepare_datasets(cfg)
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.save({"model": model.state_dict(), "frozen": describe_frozen(model)}, tmp_path / "model.pth")
    return [*chosen, "MODEL.WEIGHTS", str(tmp_path / "model.pth")]


def test_all_settings_are_scored_on_one_pass(settings, monkeypatch, capsys):
    passes = []
    propose = OPSNet.propose
    monkeypatch.setattr(OPSNet, "propose", lambda *args, **options: passes.append(1) or propose(*args, **options))
    models, load = [], tool.Checkpointer
    monkeypatch.setattr(tool, "Checkpointer", lambda model: models.append(model) or load(model))
    monkeypatch.setattr(tool, "setup_logger", lambda **_: None)  # it lasts, and other tests read the log
    tool.main(["--config-file", CONFIG, "--grid", GRID, "--grid", "ldp", "--filter", "cls", *settings])
    assert models[0].ensembles["modulation"].filter is tool.MASK_FILTERS["cls_iou"]  # as configured, not the grid's
    assert len(passes) == 1  # a batch of 3 images, for 5 settings and the model's own
    tables = [part for part in capsys.readouterr().out.split("\n\n") if " − " not in part]  # without differences
    printed = "\n\n".join(tables)
    assert printed.count("\n| modulation ratio") == 4
    assert "| modulation, PQ" in printed and "| ldp, PQ" in printed
    assert printed.count("debias=0.5 cls") == 2 + 1  # rows of both ratios, and a column


def test_grids_are_every_combination():
    grid = tool.Grid.parse(GRID)
    assert grid.settings()["modulation ratio=10 debias=0.5"] == {"ratio": 10, "debias": 0.5}
    built = tool.build_ensembles([grid], ["", "iou"], {"MODULATION": {"KAPPA": 2.0, "DEBIAS": 0.1}})
    assert len(built) == 8
    swept = built["modulation ratio=0 debias=0.5"]
    assert (swept.ratio, swept.debias, swept.kappa) == (0, 0.5, 2.0)  # the last as configured


def test_a_grid_has_filters_of_its_own_and_leaves_void_out(settings):
    grids = [tool.Grid.parse(text) for text in ("clip void=False,True filter=cls,cls_iou", "ldp")]
    found = tool.sweep([CONFIG], settings, grids, [""])["mini_b_report"]
    assert set(found) == {f"clip void={v} filter={f}" for v in (False, True) for f in ("cls", "cls_iou")} | {
        "ldp",
        "modulation",
    }
    rows = tool.table(grids[0], ["iou"], found).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["void=False", "void=True"]


def test_without_void_only_the_factor_of_it_goes():
    inputs = make_inputs()
    for name in ("clip", "modulation"):
        plain, without = (tool.build_ensembles([tool.Grid(name, {"void": [v]})], [""], {}) for v in (True, False))
        (expected,), (got,) = plain.values(), without.values()
        kept = (1 - inputs.void)[:, None]
        torch.testing.assert_close(got(inputs) * kept, expected(inputs))
        torch.testing.assert_close(got.without_iou()(inputs) * kept, expected(inputs))


@pytest.mark.parametrize("wrong", [{"filter": ["iuo"]}, {"void": [0]}])
def test_filters_and_void_are_checked(wrong):
    with pytest.raises(ValueError, match="filter must be one of cls, iou, cls_iou, void True or False"):
        tool.build_ensembles([tool.Grid("clip", wrong)], [""], {})


def test_published_grids_can_be_built():
    assert len(tool.build_ensembles([tool.Grid.parse(text) for text in tool.PUBLISHED], [""], {})) == 20 + 2 + 4


@pytest.mark.parametrize("grid", ["modulation ratio", "modulation =1", "modulation ratio="])
def test_a_grid_that_cannot_be_read_is_refused(grid):
    with pytest.raises(ValueError, match="must be CONSTANT=VALUE,VALUE"):
        tool.Grid.parse(grid)


def test_a_sweep_needs_weights_and_known_constants():
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS is empty"):
        tool.sweep([CONFIG], [], [tool.Grid("ldp", {})], [""])
    with pytest.raises(ValueError, match="no constant 'ration'"):
        tool.build_ensembles([tool.Grid("modulation", {"ration": [1]})], [""], {})
