"""Evaluation on two processes gives what one gives."""

import json
import os
from pathlib import Path

import torch

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.modeling import build_model
from possam.d2.utils import comm
from possam.data.miniature.export import export_split
from possam.engine import load_config, prepare_datasets
from possam.engine.evaluate import evaluate_datasets
from possam.engine.trainer import build_test_loader
from possam.evaluation import PanopticEvaluator, SemanticEvaluator

SPLITS = ("mini_a_train", "mini_b_selection", "mini_b_report")
NAME = SPLITS[-1]
UNEVEN = (1, 3, 5)


def _evaluate(world, inputs, outputs, output_dir):
    results = {}
    for evaluator in (
        PanopticEvaluator(world.name, train_vocabulary=world.train_vocabulary, output_dir=output_dir),
        SemanticEvaluator(world.name),
    ):
        evaluator.process(inputs, outputs)
        results |= evaluator.evaluate() or {}
    return results


def _worker(world, inputs, outputs, directory):
    rank = comm.get_rank()
    # The second image goes to both: samplers that pad do that.
    chosen = [i for i in range(len(inputs)) if i % 2 == rank or i == 1]
    result = _evaluate(world, [inputs[i] for i in chosen], [outputs[i] for i in chosen], directory / "two")
    (directory / f"{rank}.json").write_text(json.dumps(result))


def test_two_processes_give_what_one_gives(two_processes, world, tmp_path):
    inputs, outputs = world.inputs(), world.panoptic_outputs()
    for output in outputs:
        output["semantic_seg"] = output["panoptic_seg"][0].long() % 8
    expected = _evaluate(world, inputs, outputs, tmp_path / "one")
    two_processes(_worker, world, inputs, outputs, tmp_path)
    assert json.loads((tmp_path / "0.json").read_text()) == json.loads(json.dumps(expected))
    assert json.loads((tmp_path / "1.json").read_text()) == {}
    one, two = (json.loads((tmp_path / run / "panoptic.json").read_text()) for run in ("one", "two"))
    assert one == two
    assert len(list((tmp_path / "two" / "panoptic").glob("*.png"))) == len(inputs)


def _score(root, count, run):
    """Evaluate a random model on `count` images, as training and `--eval-only` do; the images that this process had."""
    os.environ["DETECTRON2_DATASETS"] = f"{root}/{count}"
    places = ["OUTPUT_DIR", f"{root}/{count}/{run}", "MODEL.TEXT_CACHE", f"{root}/text"]
    small = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8", "MODEL.MASK_FORMER.DEC_LAYERS", "4"]
    small += ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"]
    # One by one: of larger batches the last bits depend on which images are in them together.
    only = ["DATASETS.TEST", f"('{NAME}',)", "TEST.ENSEMBLES", "['ldp']", "TEST.BATCH_SIZE", "1"]
    cfg = load_config("configs/mini/possam.yaml", [*places, *small, *only])
    prepare_datasets(cfg)
    seen = []

    def loader(name):
        made = build_test_loader(cfg, name)
        seen.extend(record["image_id"] for batch in made for record in batch)
        return made

    try:
        torch.manual_seed(0)
        evaluate_datasets(cfg, build_model(cfg), loader)
    finally:
        for name in SPLITS:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    return seen


def _score_all(root):
    for count in UNEVEN:
        shares = comm.gather(_score(root, count, "two"))
        if comm.is_main_process():
            Path(root, str(count), "shares.json").write_text(json.dumps(shares))


def test_uneven_shares_give_what_one_process_gives(two_processes, tmp_path, monkeypatch):
    """1, 3 and 5 images on two processes, one of which may have none: files equal but for where the run was."""
    monkeypatch.setenv("DETECTRON2_DATASETS", "")  # is set by `_score`, and back as it was afterwards
    for count in UNEVEN:
        export_split(NAME, root=tmp_path / str(count), scenes=count)
        assert len(_score(tmp_path, count, "one")) == count
    two_processes(_score_all, str(tmp_path))
    for count in UNEVEN:
        shares = json.loads((tmp_path / str(count) / "shares.json").read_text())
        assert [len(share) for share in shares] == [(count + 1) // 2, count // 2]
        folders = [tmp_path / str(count) / run / "evaluation" / NAME for run in ("one", "two")]
        one, two = (json.loads((folder / "results.json").read_text()) for folder in folders)
        assert one.pop("provenance") and two.pop("provenance")
        assert one == two and one["dataset"]["images"] == count
        assert set(one["bootstrap"]["intervals"]) == {"mase", "ldp"}
        counts = [(folder / "panoptic_counts" / "ldp.npz").read_bytes() for folder in folders]
        assert counts[0] == counts[1]
        assert one["panoptic_seg"]["PQ"] is not None and one["compare"]["ldp"]["SQ"] is not None
        predictions = [json.loads((folder / "panoptic.json").read_text()) for folder in folders]
        assert predictions[0] == predictions[1]
        assert sorted(sum(shares, [])) == sorted(image["id"] for image in predictions[0]["images"])
