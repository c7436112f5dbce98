"""The tables over seeds, of scores that are there."""

import json

import benchmark_image_labels
import benchmark_runs
import benchmark_tables as tool
import pytest
from sweep import Grid, build_ensembles


def labels(grids):
    return list(build_ensembles([Grid.parse(grid) for grid in grids], [""], {}))


def test_all_that_the_tables_show_is_scored():
    """Every cell is of a setting of the grids of its model and split, and of no other."""
    shown = set()

    def read(model, split, label, metric="PQ"):
        assert label in labels(tool.GRIDS[model, split]), (model, split, label)
        shown.add((model, split, label))
        return f"{model} {split} {label} {metric}"

    texts = tool.tables(read)
    rows = texts[0].splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == ["2", "3", "4", "5", "6", "7"]
    assert rows[-1].count("attention B modulation ratio=10 debias=0.5 filter=cls_iou PQ") == 2  # all and unseen
    grid = texts[2].splitlines()[4:]
    assert len(grid) == 4 and "ratio=15 debias=1 " in grid[-1].split("|")[-2]
    scored = {(*key, label) for key, grids in tool.GRIDS.items() for label in labels(grids)}
    assert {label for model, _, label in scored - shown if model == "attention"} == set()


def test_mean_and_deviation_of_the_seeds():
    assert tool.spread([1.0, 2.0]) == "1.5 ± 0.7" and tool.spread([3.0]) == "3.0"


def test_rows_that_differ_in_a_bit_are_seen():
    query, modulated = (f"{tool.EMBEDDINGS[name]} filter=cls_iou" for name in ("query", "modulated"))
    same = [{query: {"PQ": 1.0}, modulated: {"PQ": 1.0}}]
    assert tool.same_on_training_vocabulary(same).startswith("Row 7 = row 6 on A")
    assert tool.same_on_training_vocabulary([*same, {query: {"PQ": 1.0}, modulated: {"PQ": 1.0 + 1e-15}}])[6] == "≠"


def test_what_is_there_is_not_done_again(tmp_path, monkeypatch):
    calls = []

    def run(command, log):
        calls.append(command[0])
        folder = tmp_path / command[command.index("OUTPUT_DIR") + 1]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model_final.pth").touch()
        for split in ("mini_b_report",) if "sweep" in command[0] else ():
            results = folder / "evaluation" / split / "results.json"
            results.parent.mkdir(parents=True, exist_ok=True)
            metrics = {"PQ": 1, "PQ_seen": 2, "PQ_unseen": 3}
            grids = [command[at + 1] for at, part in enumerate(command) if part == "--grid"]
            results.write_text(json.dumps({"compare": dict.fromkeys(labels(grids), metrics)}))

    monkeypatch.setattr(benchmark_runs, "run_tool", run)
    found = [
        benchmark_image_labels.runs("opsnet", 1, tmp_path, "mini_b_report", ["ldp"]) for _ in range(2)
    ]
    assert calls == ["tools/train_net.py"] * 3 + ["tools/sweep.py"] * 3
    benchmark_image_labels.runs("opsnet", 1, tmp_path, "mini_b_report", ["ldp", "clip void=True,False"])
    assert calls[6:] == ["tools/sweep.py"] * 3  # of settings that are not there
    assert found[0]["with labels"].keys() == {"ldp", "modulation"}  # the system's own ensemble, too
    rows = benchmark_image_labels.rows(found, ["ldp"])
    assert rows[-1] == ["ldp", "with labels", "1.0 ± 0.0", "2.0 ± 0.0", "3.0 ± 0.0"] and len(rows) == 3


@pytest.mark.parametrize("files", benchmark_image_labels.SYSTEMS.values())
def test_every_system_has_its_configurations(files):
    assert all((tool.ROOT / file).is_file() for file in files)
