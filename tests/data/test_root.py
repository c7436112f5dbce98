from pathlib import Path

from possam.data.root import datasets_root


def test_the_root_comes_from_the_argument_or_the_environment(monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert datasets_root() == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", "/somewhere")
    assert datasets_root() == Path("/somewhere")
    assert datasets_root("/else") == Path("/else")
    assert datasets_root("~/data") == Path.home() / "data"
