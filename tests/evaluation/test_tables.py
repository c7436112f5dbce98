from possam.evaluation.tables import format_comparison, format_differences, format_table, headline_metrics

NAN = float("nan")
PANOPTIC = {
    f"{m}{s}": value + i
    for i, m in enumerate(("PQ", "SQ", "RQ"))
    for s, value in {"": 50.04, "_th": 40.0, "_st": 60.0, "_seen": 55.0, "_unseen": NAN}.items()
}


def cells(text):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert len({len(line) for line in text.splitlines()}) == 1
    return [lines[0], *lines[2:]]


def test_table():
    rows = cells(format_table({"panoptic_seg": PANOPTIC}))
    assert rows[0] == ["%", "all", "things", "stuff", "seen", "unseen"]
    assert rows[1] == ["PQ", "50.0", "40.0", "60.0", "55.0", "–"]
    assert rows[3][:2] == ["RQ", "52.0"]
    without = {k: v for k, v in PANOPTIC.items() if "seen" not in k}
    assert cells(format_table({"panoptic_seg": without}))[0] == ["%", "all", "things", "stuff"]


def test_table_of_all_tasks():
    results = {
        "panoptic_seg": PANOPTIC,
        "sem_seg": {"mIoU": 30.0, "fwIoU": 1.0, "mIoU_seen": NAN, "mIoU_unseen": 20.0},
        "segm": {"AP": 10.0, "AP50": 1.0, "AP_seen": 11.0, "AP_unseen": 9.0},
        "iou_head": {"mae_matched": 0.1},
    }
    rows = cells(format_table(results))
    assert [row[0] for row in rows] == ["%", "PQ", "SQ", "RQ", "mIoU", "AP"]
    assert rows[4] == ["mIoU", "30.0", "", "", "–", "20.0"]
    assert rows[5] == ["AP", "10.0", "", "", "11.0", "9.0"]
    rows = cells(format_table({"sem_seg": results["sem_seg"]}))
    assert rows == [["%", "all", "seen", "unseen"], ["mIoU", "30.0", "–", "20.0"]]


INTERVALS = {"PQ": [48.04, 52.0], "PQ_th": [-0.06, 100.0], "PQ_seen": [-0.04, 2.0], "PQ_unseen": [NAN, NAN]}


def test_intervals_stand_under_pq():
    results = {"panoptic_seg": PANOPTIC, "segm": {"AP": 10.0, "AP_seen": 11.0}}
    text = format_table(results, intervals=INTERVALS)
    rows = cells(text)
    assert [row[0] for row in rows] == ["%", "PQ", "95 % interval", "SQ", "RQ", "AP"]
    assert rows[2][1:] == ["[48.0, 52.0]", "[-0.1, 100.0]", "", "[0.0, 2.0]", "–"]
    assert max(map(len, text.splitlines())) <= 100
    # Where it would be too wide for a terminal, the table is as it is without intervals.
    wide = {f"PQ{suffix}": [10.04, 52.0] for suffix in ("", "_th", "_st", "_seen", "_unseen", "_base", "_novel")}
    everything = {"panoptic_seg": PANOPTIC | {"PQ_base": 1.0, "PQ_novel": 2.0}}
    assert format_table(everything, intervals=wide) == format_table(everything)
    assert format_table({"sem_seg": {"mIoU": 1.0}}, intervals=None) == format_table({"sem_seg": {"mIoU": 1.0}})


def test_differences_to_the_best_ensemble():
    differences = {
        "mase": {"PQ_seen": [-1.0, -2.0, -0.5]},
        "ldp": {"PQ": [-3.14, -4.0, -2.0]},
        "clip": {"PQ": [-0.21, -1.0, 0.55]},
    }
    rows = cells(format_differences({"best": {"PQ": "mase", "PQ_seen": "ldp"}, "differences": differences}))
    assert rows == [
        ["ensemble", "PQ − mase's", "95 % interval", ""],
        ["ldp", "-3.1", "[-4.0, -2.0]", ""],
        ["clip", "-0.2", "[-1.0, 0.6]", "includes 0"],
    ]
    nothing = {"best": {"PQ": "mase"}, "differences": {"mase": {}, "ldp": {"PQ": [NAN, NAN, NAN]}}}
    assert format_differences(nothing) == ""
    assert format_differences({"intervals": {}}) == format_differences({}) == ""


def test_comparison():
    results = {
        "mase": {"panoptic_seg": PANOPTIC, "iou_head": {"spearman_segments": 0.876}},
        "ldp": {"panoptic_seg": {**PANOPTIC, "PQ": 1.0}},
    }
    rows = cells(format_comparison(results))
    assert rows[0] == [
        "ensemble",
        "PQ",
        "PQ seen",
        "PQ unseen",
        "PQ things",
        "PQ stuff",
        "SQ",
        "RQ",
        "ρ(IoU)",
    ]
    assert rows[1] == ["mase", "50.0", "55.0", "–", "40.0", "60.0", "51.0", "52.0", "0.88"]
    assert (rows[2][0], rows[2][1], rows[2][-1]) == ("ldp", "1.0", "–")
    assert len(cells(format_comparison({}))) == 1


def test_metrics_of_two_tasks_with_one_name_are_told_apart():
    results = {"sem_seg": {"mIoU": 30.0, "mIoU_seen": 31.0}, "panoptic_sem_seg": {"mIoU": 20.0, "mIoU_seen": 21.0}}
    rows = cells(format_table(results))
    assert rows[1:] == [["mIoU", "30.0", "31.0"], ["mIoU (panoptic)", "20.0", "21.0"]]
    rows = cells(format_comparison({"mase": results}))
    assert rows == [
        ["ensemble", "mIoU", "mIoU seen", "mIoU (panoptic)", "mIoU (panoptic) seen"],
        ["mase", "30.0", "31.0", "20.0", "21.0"],
    ]


def test_headline_metrics_of_what_was_written():
    written = {
        "panoptic_seg": {"PQ": 1.0, "PQ_unseen": None, "SQ_seen": 2.0},
        "segm": {"AP": 3.0, "AP50": 4.0, "APr": 5.0},
        "iou_head": {"spearman_segments": 0.5},
        "dataset": {"name": "a"},
        "sem_seg": None,
    }
    assert headline_metrics(written) == {"PQ": 1.0, "PQ unseen": None, "AP": 3.0, "AP rare": 5.0}


def test_comparison_of_datasets():
    results = {
        "a": {"sem_seg": {"mIoU": 30.0, "mIoU_seen": 40.0, "mIoU_unseen": 20.0}},
        "b": {"segm": {"AP": 10.0, "APr": 5.0}},
    }
    rows = cells(format_comparison(results, title="dataset"))
    assert rows[0] == ["dataset", "mIoU", "mIoU seen", "mIoU unseen", "AP", "AP rare"]
    assert rows[1] == ["a", "30.0", "40.0", "20.0", "–", "–"] and rows[2][-2:] == ["10.0", "5.0"]
