"""The miniature world as a preparation."""

from dataclasses import replace

import pytest

from possam.data.preparation import PREPARATIONS
from possam.data.preparation.mini import MINI


def test_drawn_once(tmp_path):
    small = replace(MINI, scenes=(("mini_b_selection", 2), ("mini_b_report", 1)))
    calls = []
    splits = ["mini_b_selection", "mini_b_report"]
    report = small.run(tmp_path, splits=splits, progress=lambda *done: calls.append(done))
    assert (report.written, report.kept) == (5 + 3, 0)
    assert calls == [(1, 3), (2, 3), (2, 3), (3, 3), (3, 3)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 8
    ages = [path.stat().st_mtime_ns for path in files]
    assert str(small.run(tmp_path, splits=splits)) == "nothing to do: all 8 files are there already"
    assert [path.stat().st_mtime_ns for path in files] == ages
    assert small.run(tmp_path, splits=["mini_b_report"], overwrite=True).written == 3


def test_its_splits_are_the_worlds():
    names = ("a_train", "b_selection", "b_report", "b_labels", "a_report")
    assert PREPARATIONS["mini"].splits == tuple(f"mini_{name}" for name in names)
    assert PREPARATIONS["mini"].extra_splits == ("mini_a_train_large",)
    with pytest.raises(ValueError, match="mini has no split 'mini_b'"):
        PREPARATIONS["mini"].run("unused", splits=["mini_b"])


def test_an_extra_split_is_drawn_where_it_is_named(tmp_path):
    small = replace(MINI, scenes=tuple((name, 1) for name in (*MINI.splits, *MINI.extra_splits)))
    small.run(tmp_path)
    assert not (tmp_path / "mini/mini_a_train_large").exists()
    small.run(tmp_path, splits=MINI.extra_splits)
    first, large = (tmp_path / f"mini/{name}/images/000000.png" for name in ("mini_a_train", "mini_a_train_large"))
    assert large.read_bytes() == first.read_bytes()
