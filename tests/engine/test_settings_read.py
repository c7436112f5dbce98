"""Every row of the table of settings is read by something, and every setting that is read has a row."""

import sys
from argparse import Namespace

import pytest
import torch

from possam.cli import job
from possam.config import keys_of
from possam.config.key import Choice
from possam.d2.config import CfgNode
from possam.engine import Trainer, load_config, prepare_datasets, trainer
from possam.engine import setup as module
from possam.engine.datasets import build_test_mapper, build_train_mapper
from possam.engine.evaluate import build_predictor
from possam.engine.prompted import prompt_options
from possam.models import model_specs
from tests.mini_configs import mini_config

SPECS = [spec for spec in model_specs() if spec.model.__module__.startswith("possam.")]
ANY, OWN = set(), set()
"""Full keys that were read, and those of them that were read by this project's own code outside of possam.d2."""
BETWEEN = ("fvcore", "yacs", __file__)


class Recorder(CfgNode):
    """A configuration that notes which of its values are read. A dump does not count."""

    def __getitem__(self, key):
        value = super().__getitem__(key)
        if not isinstance(value, CfgNode):
            self._note(key)
        return value

    def get(self, key, default=None):
        return self[key] if key in self else default

    def items(self):
        if not any(isinstance(value, CfgNode) for value in self.values()):  # constants of an ensemble, all together
            for key in self:
                self._note(key)
        return super().items()

    def dump(self, **_):
        return plain(self).dump()

    def __deepcopy__(self, _):
        return record(plain(self), self.__dict__["section"])

    def _note(self, key):
        frame = sys._getframe(2)
        while any(part in frame.f_code.co_filename for part in BETWEEN):
            frame = frame.f_back
        file = frame.f_code.co_filename.replace("\\", "/")
        ANY.add(self.__dict__["section"] + key)
        if "/possam/" in file and "/possam/d2/" not in file:
            OWN.add(self.__dict__["section"] + key)


def record(cfg, section=""):
    node = Recorder()
    node.__dict__["section"] = section
    for key, value in dict.items(cfg):
        dict.__setitem__(node, key, record(value, f"{section}{key}.") if isinstance(value, CfgNode) else value)
    return node


def plain(node):
    return CfgNode({key: plain(value) if isinstance(value, CfgNode) else value for key, value in dict.items(node)})


@pytest.fixture
def config(tmp_path, scenes):
    """Makes tiny configurations of a system."""

    def make(spec, *settings):
        names = {f"MODEL.{role.upper()}": encoder.names() for role, encoder in spec.encoders.items()}
        tiny = [(f"{node}.NAME", next(one for one in names[node] if one.startswith("mini"))) for node in names]
        tiny += [(f"{node}.WEIGHTS", "shipped") for node in names]
        tiny += [("MODEL.META_ARCHITECTURE", spec.name), ("DATASETS.TRAIN", "('mini_a_train',)")]
        tiny += [("MODEL.TEXT_CACHE", str(tmp_path / "text")), ("OUTPUT_DIR", str(tmp_path / "run"))]
        tiny += [("INPUT.FEATURE_CACHE_DIR", str(tmp_path / "features"))]
        tiny += [("MODEL.DEVICE", "cpu"), ("SOLVER.AMP.ENABLED", "False"), ("INPUT.IMAGE_SIZE", "128")]
        cfg = load_config(mini_config(spec.name), [part for pair in tiny for part in pair] + list(settings))
        prepare_datasets(record(cfg))
        return cfg

    return make


def variants(cfg, keys):
    """The configuration, and for every setting that is read under a condition one that fulfils it."""
    yield cfg
    for other, value in dict.fromkeys(key.only_if[0] for key in keys if key.only_if):
        changed = cfg.clone()
        *sections, last = other.split(".")
        node = changed
        for section in sections:
            node = node.get(section, CfgNode())
        if last in node:
            node[last] = [value] if isinstance(node[last], list) else value
            yield changed


def run(cfg, monkeypatch):
    """What `tools/train_net.py` does in a process: a step, an evaluation and pictures."""
    monkeypatch.setattr(module, "setup_logger", lambda *_, **__: None)
    monkeypatch.setattr(trainer, "training_settings", lambda _: {})  # reads settings to compare them alone
    for part in (job._check_folder, lambda cfg: module.set_up(cfg, Namespace(eval_only=False))):
        part(cfg)
    model = job._train(cfg, resume=False)
    job._show(cfg, model, report=False)
    return model


def test_every_setting_is_read_and_has_a_row(config, monkeypatch):
    ANY.clear(), OWN.clear()
    rows = {name: key for spec in SPECS for name, key in keys_of(spec.name).items()}
    for spec in SPECS:
        for cfg in variants(config(spec), keys_of(spec.name).values()):
            with torch.device("meta"):
                spec.build(record(cfg))
        build_train_mapper(record(cfg), "mini_a_train", None)
    short = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64",
             "DATASETS.TEST", "('mini_b_report',)", "TEST.NUM_VISUALIZATIONS", "1", "TEST.ENSEMBLES", "[]"]  # fmt: skip
    cfg = config(SPECS[0], *short)
    model = run(record(cfg), monkeypatch)
    optimizer = Trainer.build_optimizer(cfg, model)
    cfg.SOLVER.MAX_ITER = 100  # of which every schedule has its share
    for cfg.SOLVER.LR_SCHEDULER_NAME in rows["SOLVER.LR_SCHEDULER_NAME"].checks[0].options():
        Trainer.build_lr_scheduler(record(cfg), optimizer)
    for changed in map(record, variants(cfg, rows.values())):
        build_predictor(changed, model)
        build_test_mapper(changed, model.train_vocabulary)
    prompt_options(record(cfg), "mini_b_report", [])
    cfg.TEST.PROMPTED.KIND = "detector"
    with pytest.raises((FileNotFoundError, ValueError, IsADirectoryError)):
        prompt_options(record(cfg), "mini_b_report", [])  # of no file
    cfg.SOLVER.AMP.ENABLED = True
    trainer.build_step(record(cfg), model, [], optimizer)
    of_one_value = {name for name, key in rows.items() for check in key.checks if isinstance(check, Choice)
                    and len(check.options()) == 1}  # fmt: skip
    assert rows.keys() - ANY - of_one_value == set()
    assert OWN - rows.keys() == set()


def test_reads_are_noted_with_their_reader():
    ANY.clear(), OWN.clear()
    cfg = record(CfgNode({"A": {"B": 1, "C": 2}, "SOLVER": {"MAX_ITER": 5, "X": 1}, "D": 3}))
    assert cfg.A.B == 1 and cfg["D"] == 3 and cfg.clone().A.C == 2 and "C" in cfg.A and cfg.dump()
    assert ANY == {"A.B", "A.C", "D"} and OWN == set()
    trainer.schedule_warning(record(CfgNode({"SOLVER": {"MAX_ITER": 5, "WARMUP_ITERS": 1}})))
    assert OWN == {"SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS"}
