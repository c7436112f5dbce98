import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import possam
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.id_maps import read_id_map
from possam.data.miniature import export
from possam.data.miniature.export import export_split
from possam.data.miniature.lexicon import palette_of
from possam.data.miniature.splits import DIVIDED, SPLITS, register_miniature, split_paths
from possam.data.miniature.world import draw_scene
from possam.data.preparation.mini import MINI
from possam.vocabulary import Vocabulary

SCRIPT = Path(possam.__file__).parents[1] / "datasets" / "prepare_mini.py"


@pytest.fixture
def registered(tmp_path):
    register_miniature(tmp_path)
    yield tmp_path
    register_miniature()


def prepare(*argv):
    spec = importlib.util.spec_from_file_location("prepare_mini", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in argv])


def test_an_exported_scene_reads_back_as_drawn(tmp_path):
    calls = []
    assert export_split("mini_b_report", root=tmp_path, scenes=3, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    paths = split_paths(tmp_path, "mini_b_report")
    content = json.loads(paths["panoptic_json"].read_text())
    vocabulary = Vocabulary.load("mini_b")
    assert [c["name"] for c in content["categories"]] == list(vocabulary.display_names)
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert len(content["images"]) == len(content["annotations"]) == 3
    for index, (image, annotation) in enumerate(zip(content["images"], content["annotations"], strict=True)):
        scene = draw_scene([SPLITS["mini_b_report"].seed, index], palette_of(vocabulary.display_names))
        assert (image["id"], image["height"], image["width"]) == (annotation["image_id"], 128, 128)
        picture = cv2.imread(str(paths["image_root"] / image["file_name"]))[..., ::-1]
        assert np.array_equal(picture, scene.image)
        assert np.array_equal(read_id_map(paths["panoptic_root"] / annotation["file_name"]), scene.ids)
        for info, segment in zip(annotation["segments_info"], scene.segments, strict=True):
            assert names[info["category_id"]] in segment.kind.names
            assert (info["id"], info["area"], info["iscrowd"]) == (segment.id, segment.area, 0)
            assert tuple(info["bbox"]) == segment.bbox


def test_export_is_idempotent_and_repairs(tmp_path, monkeypatch):
    assert export_split("mini_a_train", root=tmp_path, scenes=2)
    paths = split_paths(tmp_path, "mini_a_train")
    stamp = paths["panoptic_json"].stat().st_mtime_ns
    assert not export_split("mini_a_train", root=tmp_path, scenes=2)
    assert paths["panoptic_json"].stat().st_mtime_ns == stamp
    next(paths["image_root"].glob("*.png")).unlink()
    assert export_split("mini_a_train", root=tmp_path, scenes=2)
    assert export_split("mini_a_train", root=tmp_path, scenes=1)
    assert len(list(paths["panoptic_root"].iterdir())) == len(list(paths["image_root"].iterdir())) == 1
    monkeypatch.setattr(export, "WORLD_VERSION", -1)
    assert export_split("mini_a_train", root=tmp_path, scenes=1)


def test_a_stopped_export_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_split("mini_a_train", root=tmp_path, scenes=3, progress=stop)
    assert not split_paths(tmp_path, "mini_a_train")["panoptic_json"].exists()
    assert export_split("mini_a_train", root=tmp_path, scenes=3)


def test_the_number_of_processes_changes_nothing(tmp_path):
    for processes in (1, 2):
        export_split("mini_b_selection", root=tmp_path / str(processes), scenes=4, processes=processes)
    one, two = (split_paths(tmp_path / str(n), "mini_b_selection") for n in (1, 2))
    assert one["panoptic_json"].read_text() == two["panoptic_json"].read_text()
    for folder in ("image_root", "panoptic_root"):
        for path in one[folder].iterdir():
            assert path.read_bytes() == (two[folder] / path.name).read_bytes()


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown split 'mini_c'.*valid: mini_a_train"):
        export_split("mini_c", root=tmp_path)
    with pytest.raises(ValueError, match="at least 1, got 0 and 1"):
        export_split("mini_a_train", root=tmp_path, scenes=0)


def test_registered_splits_load_with_contiguous_classes(registered):
    for name, split in SPLITS.items():
        export_split(name, root=registered, scenes=2)
        records = DatasetCatalog.get(name)
        vocabulary = Vocabulary.load(split.vocabulary)
        assert MetadataCatalog.get(name).vocabulary == vocabulary
        assert len(records) == 2 and Path(records[0]["file_name"]).is_file()
        for index, record in enumerate(records):
            scene = draw_scene([split.seed, index], palette_of(vocabulary.display_names))
            if split.image_labels:
                names = {name for segment in scene.segments for name in segment.kind.names}
                shown = [i for i, name in enumerate(vocabulary.display_names) if name in names]
                assert record["labels"] == shown and "segments_info" not in record
                continue
            for info, segment in zip(record["segments_info"], scene.segments, strict=True):
                assert vocabulary.display_names[info["category_id"]] in segment.kind.names
                assert info["isthing"] == segment.isthing


def test_names_are_known_before_preparation_and_loading_says_what_to_run(registered):
    assert set(SPLITS) <= set(DatasetCatalog.list())
    with pytest.raises(FileNotFoundError, match=f"python datasets/prepare_mini.py --root {registered}"):
        DatasetCatalog.get("mini_a_train")
    with pytest.raises(FileNotFoundError, match=f"prepare_mini.py --root {registered} --splits mini_a_train_large"):
        DatasetCatalog.get("mini_a_train_large")


def test_registering_again_moves_the_names(registered, tmp_path):
    assert register_miniature(registered) == [*SPLITS, *DIVIDED]
    other = tmp_path / "other"
    register_miniature(other)
    for name in ("mini_b_report", "mini_12_14_report"):
        assert MetadataCatalog.get(name).image_root == str(other / "mini/mini_b_report/images")
    assert MetadataCatalog.get("mini_12_14_report").class_split == "mini_12_14"
    assert not MetadataCatalog.get("mini_b_report").class_split


def test_the_script_prepares_all_splits_and_may_be_run_again(tmp_path, capsys):
    argv = ("--root", tmp_path, "--a-train", 2, "--b-selection", 1, "--b-report", 1, "--b-labels", 1, "--a-report", 1)
    assert prepare(*argv) == 0
    for name, count in zip(MINI.splits, (2, 1, 1, 1, 1), strict=True):
        content = json.loads(split_paths(tmp_path, name)["panoptic_json"].read_text())
        assert len(content["images"]) == count
    assert prepare(*argv) == 0
    assert "there already" in capsys.readouterr().out
    assert prepare("--root", tmp_path, "--a-train", 0) == 2
    assert "at least 1" in capsys.readouterr().err


def test_a_number_of_scenes_of_a_split_that_is_not_chosen_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare("--root", tmp_path, "--a-train-large", 3)
    assert "a number of scenes is given for mini_a_train_large, which is not among --splits" in capsys.readouterr().err
    assert not (tmp_path / "mini").exists()
