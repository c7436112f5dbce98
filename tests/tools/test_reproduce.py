"""Published numbers beside our own, on whatever test sets are here."""

import importlib.util
import json
import re

import pytest

from possam.classifiers import ENSEMBLE_REGISTRY
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.modeling import build_model
from possam.data.preparation import PREPARATIONS
from possam.engine import Checkpointer, load_config, prepare_datasets
from tests.layouts import make_ade20k, make_pascal_voc

SMALL = [
    "MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "DATASETS.CLASS_NAMES", "", "DATALOADER.NUM_WORKERS", "0",
    "MODEL.CLIP.NAME", "mini_strong", "MODEL.CLIP.WEIGHTS", "shipped", "INPUT.MIN_SIZE_TEST", "48",
    "MODEL.MASK_FORMER.HIDDEN_DIM", "64", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8",
    "MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.TEXT_CACHE", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("reproduce", "tools/reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A datasets' root with two images of ADE20K and of PASCAL VOC, and an untrained checkpoint."""
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    make_ade20k(tmp_path / "data")
    make_pascal_voc(tmp_path / "data")
    for name in ("ade20k", "pascal_voc"):
        PREPARATIONS[name].run(tmp_path / "data")
    cfg = load_config("configs/fcclip/convnext_large.yaml", SMALL)
    prepare_datasets(cfg)
    Checkpointer(build_model(cfg), str(tmp_path)).save("model")
    yield tmp_path
    DatasetCatalog.data, MetadataCatalog.data = before


def run(tool, here, *datasets, ensembles=()):
    files = ["--weights", str(here / "model.pth"), "--output", str(here / "out")]
    chosen = [*(["--datasets", *datasets] if datasets else []), *(["--ensembles", *ensembles] if ensembles else [])]
    tool.main(["fcclip", *files, *chosen, "--opts", *SMALL, "INPUT.FEATURE_CACHE_DIR", str(here / "features")])


def printed_rows(capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_what_is_here_is_compared_and_the_rest_is_not_here(tool, here, capsys):
    run(tool, here, "ade20k", "coco", "pas20")
    table = {(row[0], row[2]): row for row in printed_rows(capsys)}
    assert table["coco", ""][1] == "not here"
    expected = {("ade20k", "PQ"): 26.7882, ("ade20k", "AP"): 16.8234, ("pas20", "mIoU"): 95.3521}
    for (dataset, metric), number in expected.items():
        _, images, _, published, ours, difference = table[dataset, metric]
        assert re.match(r"2 of \d+", images) and float(published) == number
        assert float(difference) == pytest.approx(float(ours) - number, abs=2e-4)
    metrics = [metric for dataset, metric in table if dataset == "ade20k"]
    assert metrics == list(tool.published("convnext_large")["ade20k"])
    results = json.loads((here / "out/convnext_large/pas20/evaluation/pascal_voc_20_val/results.json").read_text())
    config = results["provenance"]["config"]
    assert config["TEST"]["SEMANTIC_RESIZE"] == "scores" and config["TEST"]["TASKS"] == ["semantic"]
    assert f"{results['sem_seg']['mIoU']:.4f}" == table["pas20", "mIoU"][4]


def test_all_ensembles_score_the_same_masks_of_ade20k(tool, here, capsys):
    run(tool, here, ensembles=["all"])
    rows = printed_rows(capsys)
    start = next(index for index, row in enumerate(rows) if row[:2] == ["test set", "ensemble"])
    table = {row[1]: dict(zip(rows[start], row, strict=True)) for row in rows[start + 1 :]}
    assert set(table) == {*ENSEMBLE_REGISTRY, "geometric, tta"} and next(iter(table)) == "geometric"
    folder = here / "out/convnext_large"
    plain, views = (json.loads(next((folder / name).rglob("*_val/results.json")).read_text())
                    for name in ("ade20k", "ade20k_tta"))  # fmt: skip
    for name in ("mase", "uniform", "modulation"):
        assert table[name]["PQ_unseen"] == f"{plain['compare'][name]['PQ_unseen']:.2f}"
    assert table["geometric"]["PQ"] == f"{plain['panoptic_seg']['PQ']:.2f}"
    assert table["geometric, tta"]["PQ"] == f"{views['panoptic_seg']['PQ']:.2f}"
    assert views["provenance"]["config"]["TEST"]["AUG"]["ENABLED"] and "compare" not in views


def test_nothing_here_and_no_file_are_said(tool, here):
    with pytest.raises(FileNotFoundError, match=r"None of coco is here; .*DETECTRON2_DATASETS"):
        run(tool, here, "coco")
    with pytest.raises(FileNotFoundError, match="None of coco is here"):
        run(tool, here, "coco", ensembles=["mase"])
    with pytest.raises(FileNotFoundError, match=r"no file .*missing.pth"):
        tool.main(["fcclip", "--weights", str(here / "missing.pth")])


def test_every_backbone_has_numbers_of_every_test_set(tool):
    for backbone in tool.BACKBONES:
        numbers = tool.published(backbone)
        assert set(numbers) == set(tool.TEST_SETS) and all(numbers.values())
        assert load_config([f"configs/fcclip/{backbone}.yaml"], SMALL[:6]).MODEL.META_ARCHITECTURE == "FcClip"
    assert tool.published("rn50")["ade20k"] == {"PQ": 17.9, "AP": 9.5, "mIoU": 23.3}
    assert tool.published("rn50x64")["coco"] == {"PQ": 55.6, "AP": 46.4, "mIoU": 65.3}
