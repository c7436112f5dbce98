"""Configuration of the built-in runtime."""

import pytest

from possam.d2._runtime.config import CfgNode, configurable, get_cfg


def test_a_file_is_merged_after_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n  MAX_ITER: 7\n")
    (tmp_path / "child.yaml").write_text("_BASE_: base.yaml\nSOLVER:\n  MAX_ITER: 9\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "child.yaml"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.GAMMA) == (0.5, 9, 0.1)
    assert get_cfg().SOLVER.MAX_ITER == 40000  # the defaults are untouched


def test_bad_files_are_refused(tmp_path):
    old, unknown = tmp_path / "old.yaml", tmp_path / "unknown.yaml"
    old.write_text("VERSION: 1\n")
    unknown.write_text("SOLVER:\n  BASE_LEARNING_RATE: 1\n")
    with pytest.raises(ValueError, match="version 1"):
        get_cfg().merge_from_file(str(old))
    with pytest.raises(KeyError, match="BASE_LEARNING_RATE"):
        get_cfg().merge_from_file(str(unknown))
    with pytest.raises(FileNotFoundError):
        get_cfg().merge_from_file(str(tmp_path / "none.yaml"))


def test_a_dumped_config_reads_back():
    cfg = get_cfg()
    cfg.SOLVER.STEPS = (1, 2)
    assert CfgNode.load_cfg(cfg.dump()).SOLVER.STEPS == [1, 2] or CfgNode.load_cfg(cfg.dump()).SOLVER.STEPS == (1, 2)


class Part:
    @configurable
    def __init__(self, *, rate, extra=0):
        self.rate, self.extra = rate, extra

    @classmethod
    def from_config(cls, cfg):
        return {"rate": cfg.SOLVER.BASE_LR}


def test_configurable_takes_arguments_or_a_config_or_both():
    cfg = get_cfg()
    assert Part(rate=3).rate == 3
    assert Part(cfg).rate == cfg.SOLVER.BASE_LR
    assert Part(cfg=cfg, extra=5).extra == 5
    assert Part(cfg, rate=2).rate == 2
    with pytest.raises(TypeError):
        Part(cfg, unknown=1)


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "a.yaml").write_bytes("OUTPUT_DIR: Größe\n".encode())
    with CfgNode._open_cfg(str(tmp_path / "a.yaml")) as file:
        assert file.encoding == "utf-8"  # a locale's own is written "UTF-8"
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    assert cfg.OUTPUT_DIR == "Größe"
