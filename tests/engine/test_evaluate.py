"""Several test sets in one run, and what is written about them."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from possam.d2.data import MetadataCatalog
from possam.d2.modeling import build_model
from possam.data.miniature.export import export_split
from possam.engine import load_config, prepare_datasets
from possam.engine.evaluate import evaluate, evaluate_datasets
from possam.engine.trainer import build_test_loader
from possam.evaluation import ImageCounts, Metric, Task, intervals, register_task
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.tasks import _TASKS
from possam.models import PosSAM
from possam.report.source import EvaluationFolder
from possam.vocabulary import Vocabulary

A, B = "mini_a_train", "mini_b_report"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with three scenes of each of two vocabularies."""
    root = tmp_path_factory.mktemp("scenes")
    for split in (A, B):
        export_split(split, root=root, scenes=3)
    return root


@pytest.fixture
def run(scenes, miniature, tmp_path):
    """run(folder, *settings, model=None): a configuration of the miniature world, and the model to score: by default an
    untrained one, whose every mask counts."""
    miniature(scenes)

    def make(folder, *settings, model=None):
        places = ["OUTPUT_DIR", str(tmp_path / folder), "MODEL.TEXT_CACHE", str(scenes / "text")]
        places += ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"]
        cfg = load_config("configs/mini/possam.yaml", [*places, *settings])
        prepare_datasets(cfg)
        torch.manual_seed(1)
        return cfg, model or build_model(cfg)

    return make


def score(cfg, model, **keywords):
    return evaluate_datasets(cfg, model, lambda name: build_test_loader(cfg, name), **keywords)


def _folder(cfg):
    return Path(cfg.OUTPUT_DIR) / "evaluation"


def _read(cfg, *place):
    return json.loads(_folder(cfg).joinpath(*place).read_text())


def same(a, b):
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def test_test_sets_do_not_influence_each_other(run):
    """In both orders, and alone: identical numbers, to the last digit, with each one's own names."""
    only = ["TEST.ENSEMBLES", "['ldp']"]
    one, model = run("ab", *only, "DATASETS.TEST", str([A, B]))
    other, _ = run("ba", *only, "DATASETS.TEST", str([B, A]), model=model)
    forth, back = score(one, model), score(other, model)
    assert list(forth) == [A, B] and list(back) == [B, A]
    assert same(forth, dict(back))
    alone, fresh = run("b", *only, "DATASETS.TEST", str([B]))
    assert same(score(alone, fresh)[B], forth[B])
    # The numbers are numbers, and those of different vocabularies.
    for name in (A, B):
        assert forth[name]["sem_seg"]["mIoU"] > 0 and forth[name]["panoptic_seg"]["RQ"] >= 0
        assert math.isfinite(forth[name]["segm"]["AP"]) and set(forth[name]["compare"]) == {"mase", "ldp"}
    assert not same(forth[A], forth[B])
    assert math.isnan(forth[A]["sem_seg"]["mIoU_unseen"]) and forth[B]["sem_seg"]["mIoU_unseen"] >= 0
    written = {name: _read(one, name, "panoptic.json") for name in (A, B)}
    assert {len(content["categories"]) for content in written.values()} == {30, 34}


def test_what_is_written(run):
    cfg, model = run("out", "DATASETS.TEST", str([A, B]), "TEST.ENSEMBLES", "['clip']")
    results = score(cfg, model)
    whole, report = _read(cfg, "results.json"), _read(cfg, B, "results.json")
    assert set(whole) == {"datasets", "provenance"} and list(whole["datasets"]) == [A, B]
    assert report["provenance"] == whole["provenance"]
    assert whole["datasets"][B] == {key: value for key, value in report.items() if key != "provenance"}
    assert report["panoptic_seg"]["PQ"] == results[B]["panoptic_seg"]["PQ"]
    bootstrap = report["bootstrap"]
    assert set(bootstrap["intervals"]) == set(bootstrap["differences"]) == {"mase", "clip"}
    for name, of in bootstrap["intervals"].items():
        counts = ImageCounts.load(_folder(cfg) / B / "panoptic_counts" / f"{name}.npz")
        assert len(counts.image_ids) == 3 and counts.class_names == Vocabulary.load("mini_b").display_names
        assert intervals(counts)["PQ"] == pytest.approx([results[B]["compare"][name]["PQ"], *of["PQ"]], nan_ok=True)
    assert _read(cfg, A, "results.json")["panoptic_seg"]["PQ_unseen"] is None  # NaN: every class of A is seen
    about = report["dataset"]
    vocabulary, train = Vocabulary.load("mini_b"), Vocabulary.load("mini_a")
    assert about["vocabulary"] == {"name": "mini_b", "classes": 34} and about["images"] == 3
    assert about["train_vocabulary"] == {"name": "mini_a", "classes": 30}
    overlap = vocabulary.overlap(train)
    assert about["seen"] == {
        "classes": 16,
        "unseen_classes": 18,
        "overlap": overlap and f"{overlap.train}_to_{overlap.test}",
        "overlap_version": overlap and overlap.version,
    }
    assert about["average_precision_by"].split()[0] in ("pycocotools", "faster-coco-eval")
    assert report["provenance"]["config"]["DATASETS"]["TEST"] == [A, B]
    assert report["provenance"]["ensemble"]["name"] == "mase"


def test_unseen_classes_are_those_of_the_models_training_and_not_of_the_configuration(run):
    cfg, model = run("seen", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]", "TEST.TASKS", "['panoptic']")
    model.train_vocabulary = Vocabulary.load("mini_b")  # as a checkpoint brings it
    score(cfg, model)
    about = _read(cfg, B, "results.json")["dataset"]
    assert (about["train_vocabulary"]["name"], about["seen"]["unseen_classes"], about["unseen"]) == ("mini_b", 0, [])
    assert all(EvaluationFolder(_folder(cfg) / B).seen)
    assert not all(EvaluationFolder(_folder(cfg) / B, train_vocabulary=Vocabulary.load("mini_a")).seen)


def test_a_model_that_has_diverged_is_not_scored(run):
    cfg, model = run("diverged", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]")
    with torch.no_grad():
        model.classifier.void[2] = math.nan
    with pytest.raises(FloatingPointError, match=rf"{B} is not scored: .*classifier.void \(1 of"):
        score(cfg, model)


def test_one_dataset_alone_writes_the_same(run):
    cfg, model = run("whole", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]")
    score(cfg, model)
    single, _ = run("single", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]", model=model)
    result = evaluate(single, model, B, lambda name: build_test_loader(single, name))
    one, two = (_read(chosen, B, "results.json") for chosen in (cfg, single))
    assert "compare" not in result
    assert {k: v for k, v in one.items() if k != "provenance"} == {k: v for k, v in two.items() if k != "provenance"}


def test_results_are_written_before_tables_are_made_and_printed(run, monkeypatch):
    cfg, model = run("ab", "DATASETS.TEST", str([A, B]), "TEST.ENSEMBLES", "[]")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    results = score(cfg, model)
    sys.stdout.flush()
    assert b"?(IoU)" in written.getvalue()  # the rho of the rank correlation
    assert _read(cfg, "results.json")["datasets"].keys() == results.keys()

    module = sys.modules["possam.engine.evaluate"]  # the package has a function of that name

    def fail(*_, **__):
        raise KeyError("tables cannot be made")

    for table, place in (("format_table", (A, "results.json")), ("format_comparison", ("results.json",))):
        _folder(cfg).joinpath(*place).unlink()
        with monkeypatch.context() as patch, pytest.raises(KeyError, match="tables"):
            patch.setattr(module, table, fail)
            if table == "format_comparison":
                patch.setattr(module, "_evaluate", lambda *_: {"results": {}, "intervals": {}, "dataset": {}})
            score(cfg, model)
        assert _folder(cfg).joinpath(*place).is_file()


def test_tasks_are_those_of_the_dataset(run, caplog):
    cfg, model = run("semantic", "DATASETS.TEST", str([A, B]), "TEST.ENSEMBLES", "['ldp']")
    MetadataCatalog.get(B).__dict__["tasks"] = ("semantic",)
    with caplog.at_level("INFO"):
        results = score(cfg, model)
    assert "bootstrap" not in _read(cfg, B, "results.json")  # there are intervals of panoptic quality alone
    assert set(results[B]) == {"sem_seg", "compare"} and set(results[B]["compare"]["ldp"]) == set(results[B]["sem_seg"])
    assert f"{B} has no annotation for panoptic, instance" in caplog.text
    MetadataCatalog.get(B).__dict__["tasks"] = ("instance",)
    cfg, _ = run("none", "DATASETS.TEST", str([A, B]), "TEST.TASKS", "['panoptic']", model=model)
    with pytest.raises(ValueError, match=rf"'{B}' has annotations for \['instance'\]"):
        score(cfg, model)
    assert not (_folder(cfg) / A).exists()  # said before the first set is scored


class Mirror:
    """Predicts in the model's place: notes what it was asked."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def predict(self, inputs):
        plain = [{key: value for key, value in sample.items() if key != "prompts"} for sample in inputs]
        return [("mine", prediction) for prediction in self.model.predict(plain)]

    def segment(self, prediction, ensemble, tasks):
        self.asked.append((prediction[0], ensemble, tasks))
        return self.model.segment(prediction[1], ensemble, tasks)


def test_another_predictor(run):
    cfg, model = run("plain", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]")
    expected = score(cfg, model)
    mirror = Mirror(model)
    other, _ = run("mirror", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "[]", model=model)
    assert same(score(other, model, predictor=mirror), expected)
    assert mirror.asked == [("mine", "mase", tuple(cfg.TEST.TASKS))] * 3


def test_the_panoptic_prediction_is_scored_as_a_label_map_too(run):
    tasks = ["TEST.TASKS", "['panoptic_semantic', 'semantic']", "TEST.NUM_VISUALIZATIONS", "0"]
    cfg, model = run("merged", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "['clip']", *tasks)
    mirror = Mirror(model)
    results = score(cfg, model, predictor=mirror)[B]
    assert list(results) == ["panoptic_sem_seg", "sem_seg", "compare"]
    assert results["panoptic_sem_seg"]["mIoU"] > 0 and set(results["compare"]) == {"mase", "clip"}
    assert results["compare"]["mase"] == results["panoptic_sem_seg"]
    assert set(mirror.asked) == {("mine", "mase", ("panoptic", "semantic")), ("mine", "clip", ("panoptic",))}


class PromptCounter(PerImageEvaluator):
    """Counts the prompts of an image."""

    def process(self, inputs, outputs):
        super().process(inputs, [{"n": len(sample["prompts"])} for sample in inputs])

    def score_image(self, image_id, output):
        return output["n"]

    def summarize(self, results):
        return {"prompts": {"N": float(sum(results))}}


@pytest.fixture
def prompted(monkeypatch):
    """A registered task that needs prompts, and a system that takes them."""
    monkeypatch.setattr("possam.evaluation.tasks._TASKS", dict(_TASKS))
    metric = Metric(key="N", heading="N", text="number of prompts", percent=False)
    row = {"key": "count_prompts", "needs": "instance", "result": "prompts", "outputs": ("instance",)}
    register_task(Task(**row, evaluator=PromptCounter, metrics=(metric,), prompts=True))
    return lambda: monkeypatch.setattr(PosSAM, "takes_prompts", True)


def test_a_task_with_prompts_gets_inputs_with_prompts(run, prompted):
    prompted()
    tasks = ["TEST.TASKS", "['count_prompts']", "TEST.NUM_VISUALIZATIONS", "0"]
    cfg, model = run("prompted", "DATASETS.TEST", str([B]), "TEST.ENSEMBLES", "['clip']", *tasks)
    asked, mirror = [], Mirror(model)

    def loader_of(name, **keywords):
        asked.append(keywords)
        for batch in build_test_loader(cfg, name):
            yield [sample | ({"prompts": [None, None]} if keywords else {}) for sample in batch]

    results = evaluate_datasets(cfg, model, loader_of, predictor=mirror)[B]
    assert asked == [{"prompts": True}]
    assert [call[1:] for call in dict.fromkeys(mirror.asked)] == [("clip", ("instance",)), ("mase", ("instance",))]
    assert results["prompts"] == {"N": 6.0} and results["compare"] == {"clip": {"N": 6.0}, "mase": {"N": 6.0}}
    assert _read(cfg, B, "results.json")["dataset"]["images"] == 3


def test_a_model_without_prompts_is_refused_before_data_is_read(run, prompted):
    tasks = ["TEST.TASKS", "['panoptic', 'count_prompts']"]
    with pytest.raises(ValueError, match="TEST.TASKS has 'count_prompts', which .* but PosSAM takes none"):
        run("refused", *tasks)
    cfg, model = run("changed", "DATASETS.TEST", str([B]))
    cfg.TEST.TASKS = ["count_prompts"]
    with pytest.raises(ValueError, match="PosSAM takes none"):
        evaluate_datasets(cfg, model, pytest.fail)
    prompted()
    with pytest.raises(ValueError, match="'count_prompts', whose prompts test-time augmentation does not"):
        run("views", "TEST.TASKS", "['count_prompts']", "TEST.AUG.ENABLED", "True")
