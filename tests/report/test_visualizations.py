"""Each kind of case is shown by the images that show it best, with every kind of ground truth."""

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import register_semantic
from possam.data.miniature.export import export_split
from possam.evaluation import GroundTruth
from possam.report import visualizations
from possam.vocabulary import Vocabulary


def test_kinds():
    vocabulary = Vocabulary.from_names(["cat", "dog", "sky"], isthing=[True, True, False])
    kinds = visualizations.case_kinds(vocabulary, Vocabulary.from_names(["cat", "sky"]))

    def record(*segments):
        infos = [{"category_id": k, "area": area, "isthing": k < 2} for k, area in segments]
        return {"segments_info": infos, "height": 10, "width": 20}

    mixed = record((0, 50), (0, 10), (1, 40), (2, 100))
    assert {kind: strength(mixed) for kind, strength in kinds.items()} == {
        "seen-things": 0.3,
        "unseen-things": 0.2,
        "seen-stuff": 0.5,
        "unseen-stuff": 0,
        "many-segments": 4,
        "small-segments": -10,
    }
    assert not any(strength(record()) for strength in kinds.values())


@pytest.mark.parametrize("views", [False, True])
def test_pictures_of_a_panoptic_dataset(mini_config, mini_model, tmp_path, monkeypatch, views):
    root = tmp_path / "datasets"
    export_split("mini_b_report", root=root, scenes=3)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    from possam.engine import prepare_datasets

    prepare_datasets(mini_config)
    mini_config.TEST.NUM_VISUALIZATIONS = 1
    mini_config.TEST.AUG.ENABLED, mini_config.TEST.AUG.SCALES = views, [1.0, 1.25]
    try:
        paths = visualizations.draw_cases(mini_config, mini_model, "mini_b_report")
    finally:
        for name in ("mini_a_train", "mini_b_selection", "mini_b_report"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    folder = tmp_path / "run" / "evaluation" / "mini_b_report" / "pictures"
    kinds = {path.name.rsplit("-", 1)[0] for path in paths}
    assert {path.parent for path in paths} == {folder} and len(kinds) == len(paths) >= 4
    assert {"many-segments", "small-segments"} <= kinds
    assert all(Image.open(path).width > 3 * 512 for path in paths)


@pytest.fixture
def labeled(tmp_path):
    """Seven images of 60×2000 pixels with label maps and nothing else."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    labels = np.full((60, 2000), 255, np.uint8)
    labels[:, :1000], labels[:30, 1000:1500] = 2, 0
    for number in range(7):
        Image.new("RGB", (2000, 60), (10 * number, 0, 0)).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{number}.png")
    register_semantic(
        "labeled",
        image_root=tmp_path / "images",
        label_root=tmp_path / "labels",
        vocabulary=Vocabulary.from_names(["striped star", "bar", "sea"], isthing=[True, True, False]),
    )
    yield "labeled"
    DatasetCatalog.remove("labeled")
    MetadataCatalog.remove("labeled")


def test_pictures_of_a_semantic_dataset(labeled, mini_config, mini_model):
    mini_config.TEST.NUM_VISUALIZATIONS = 3
    paths = visualizations.draw_cases(mini_config, mini_model, labeled)
    assert [path.name for path in paths] == ["sample-0.png", "sample-3.png", "sample-6.png"]
    # Three panels that were shrunk from 2000 pixels to 1024.
    assert 3 * 1024 < Image.open(paths[0]).width < 4 * 1024
    ids, segments = visualizations._truth(GroundTruth(labeled), "0")
    assert ids.shape == (31, 1024) and segments[2] == {"category_id": 2, "id": 3}
    assert set(np.unique(ids)) == {0, 1, 3}


def test_a_dataset_without_masks_has_no_ground_truth_to_draw(labeled):
    ground_truth = GroundTruth(labeled)
    ground_truth.tasks = ("instance",)
    assert visualizations._truth(ground_truth, "0") is None
