"""The choice of MASE's constants."""

import pytest

from possam.data.miniature.export import export_split
from possam.engine import Checkpointer, load_config
from tools import choose_mase
from tools.choose_mase import SelectionRun

SPLIT = "mini_b_selection"


def test_runs_with_a_mask_filter_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_text(load_config("configs/mini/opsnet.yaml", []).dump())
    with pytest.raises(ValueError, match=r"TEST\.MASK_FILTER 'cls_iou', which would be left out"):
        SelectionRun(tmp_path, SPLIT)


def test_combinations_are_scored_with_their_thresholds(
    tmp_path, miniature, mini_config, mini_model, monkeypatch, capsys
):
    miniature(tmp_path)
    export_split(SPLIT, root=tmp_path, scenes=2)
    run = tmp_path / "run"
    Checkpointer(mini_model, str(run)).save("model_final")
    (run / "config.yaml").write_text(mini_config.dump())
    merge, used = choose_mase.merge_panoptic, []

    def merged(*args, **kwargs):
        used.append(kwargs)
        return merge(*args, **kwargs)

    monkeypatch.setattr(choose_mase, "merge_panoptic", merged)
    tried = {"overlap_threshold": [0.35], "object_threshold": [0.15]}
    monkeypatch.setattr(choose_mase, "GRID", choose_mase.GRID | tried)
    monkeypatch.setattr("sys.argv", ["choose_mase.py", str(run), "--samples", "2"])
    choose_mase.main()
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("uniform as configured: ", "fixed λ = 0.7: ")) for line in printed) == 2
    assert [line.split()[8] for line in printed[-2:]] == ["0.35", "0.35"]
    own = mini_config.MODEL.MASK_FORMER.TEST
    configured = {"overlap_threshold": own.OVERLAP_THRESHOLD, "object_threshold": own.OBJECT_MASK_THRESHOLD}
    assert used[-4:] == [{"overlap_threshold": 0.35, "object_threshold": 0.15}] * 4
    assert used[:-4] and all(thresholds == configured for thresholds in used[:-4])


def test_constants_that_are_not_tried_are_the_runs_own(tmp_path, miniature, mini_config, mini_model, monkeypatch):
    miniature(tmp_path)
    export_split(SPLIT, root=tmp_path, scenes=1)
    Checkpointer(mini_model, str(tmp_path / "run")).save("model_final")
    mini_config.MODEL.ENSEMBLE.MASE.GAMMA = 0.625
    (tmp_path / "run" / "config.yaml").write_text(mini_config.dump())
    build, built = choose_mase.build_ensemble, []
    monkeypatch.setattr(choose_mase, "build_ensemble", lambda name, **own: built.append(own) or build(name, **own))
    run = SelectionRun(tmp_path / "run", SPLIT)
    run.score("mase", {"alpha": 0.3, "beta": 0.3}, run.thresholds)
    assert (built[0]["alpha"], built[0]["gamma"], built[0]["eta"]) == (0.3, 0.625, mini_config.MODEL.ENSEMBLE.MASE.ETA)
