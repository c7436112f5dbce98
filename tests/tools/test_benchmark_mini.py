"""The table of the miniature benchmark, of results that are there."""

import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location("benchmark_mini", "tools/benchmark_mini.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def run(value, **more):
    row = dict.fromkeys(["PQ", "PQ_seen", "PQ_unseen", "SQ", "RQ"], value)
    return {"compare": {"geometric": row}, **more}


def test_mean_and_deviation_of_the_seeds():
    without = dict.fromkeys([f"spearman_{kind}" for kind in tool.KINDS])  # of an IoU that is always 1
    head, *_, row = tool.table("FC-CLIP", [run(1.0), run(2.0, iou_head=without)]).strip().splitlines()
    assert head == "**FC-CLIP**, 2 seeds"
    assert row.split("|")[1:3] == [" geometric  ", " 1.50 ± 0.71 "]


def test_an_iou_head_has_its_rank_correlation():
    ranks = {f"spearman_{kind}": 0.5 for kind in tool.KINDS}
    head = tool.table("PosSAM", [run(1.0, iou_head=ranks)]).splitlines()[0]
    assert head.endswith("rank correlation with the true IoU: segments 0.50, best 0.50, matched 0.50")


def test_every_variant_has_a_configuration():
    assert all(Path(config).is_file() for config, _ in tool.VARIANTS.values())
