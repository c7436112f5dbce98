"""An image and words in, a segmentation out, whatever the image is."""

import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from possam.classifiers.ensembles.mase import training_mass
from possam.d2.data import transforms
from possam.d2.modeling import build_model
from possam.data import ResizeLongestSide, SegmentationMapper, build_augmentations, read_id_map
from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.models import top_names
from possam.models.parts import ensemble_from_yaml
from possam.predict.predictor import Predictor
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.words import read_words

PALETTE = palette_of(Vocabulary.load("mini_b").display_names)
WORDS = ["striped star", "framed circle", "lawn, grass: stuff", "sea: stuff", "tile: stuff"]


@pytest.fixture
def scene():
    return draw_scene([3, 14], PALETTE).image


@pytest.fixture
def predictor(mini_model, monkeypatch):
    mini_model.postprocessor.object_threshold = 0.0
    # An untrained model names masks by any of 30 background words; they have tests of their own.
    monkeypatch.setattr("possam.predict.predictor.choose_background", lambda *_: ())
    return Predictor(mini_model)


def test_the_segmentation_and_its_description_agree(predictor, scene):
    result = predictor(scene, WORDS)
    assert result.segmentation.shape == scene.shape[:2] and result.segmentation.dtype == np.int32
    assert {info["id"] for info in result.segments_info} == set(np.unique(result.segmentation)) - {0}
    for info in result.segments_info:
        mask = result.segmentation == info["id"]
        rows, columns = np.nonzero(mask)
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert info["area"] == mask.sum() and info["bbox"] == [columns.min(), rows.min(), width, height]
        assert info["label"] == result.vocabulary.display_names[info["label_id"]]
        assert info["isthing"] == result.vocabulary.isthing[info["label_id"]]
        assert all(0 <= info[key] <= 1 for key in ("score", "iou", "seen_confidence"))
    assert result.labels == [info["label"] for info in result.segments_info] != []


def test_images_are_resized_as_the_model_is_configured(predictor):
    image = np.zeros((100, 90, 3), np.uint8)
    assert predictor._fit(image).shape == (128, 115, 3)
    predictor.model.shortest_edge = (72, 76)
    mapper = SegmentationMapper(
        augmentations=build_augmentations(image_size=128, shortest_edge=(72, 76), is_train=False),
        is_train=False,
        vocabulary=Vocabulary.load("mini_b"),
    )
    inputs = transforms.AugInput(image)
    mapper.augmentations(inputs)
    assert predictor._fit(image).shape == inputs.image.shape == (76, 68, 3)


def test_it_is_what_the_evaluation_computes(predictor, tmp_path):
    image = draw_scene([3, 3], PALETTE).image[:100, :90]
    path = tmp_path / "scene.png"
    Image.fromarray(image).save(path)
    vocabulary = Vocabulary.load("mini_b")
    mapper = SegmentationMapper(augmentations=[ResizeLongestSide(128)], is_train=False, vocabulary=vocabulary)
    inputs = mapper({"file_name": str(path), "image_id": 1, "height": 100, "width": 90})
    model = predictor.model
    output = model.segment(model.predict([inputs])[0], tasks=("panoptic", "semantic", "instance"))
    result = predictor(path, vocabulary, tasks=["semantic", "instance"])
    assert np.array_equal(result.segmentation, output["panoptic_seg"][0].numpy())
    assert [i["label_id"] for i in result.segments_info] == [s["category_id"] for s in output["panoptic_seg"][1]]
    assert np.array_equal(result.semantic, output["semantic_seg"].numpy())
    assert np.array_equal(np.stack([i["mask"] for i in result.instances]), output["instances"].pred_masks.numpy())
    assert [i["score"] for i in result.instances] == output["instances"].scores.tolist()
    x1, y1, x2, y2 = output["instances"].pred_boxes.tensor[0].tolist()
    assert result.instances[0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])


def test_a_second_vocabulary_asks_the_network_nothing(predictor, scene, monkeypatch):
    first = predictor(scene, WORDS)
    monkeypatch.setattr(predictor.model, "encode", lambda *_, **__: pytest.fail("the image was encoded again"))
    second = predictor(scene, ["striped star", "sea: stuff"])
    assert set(second.labels) <= {"striped star", "sea"}
    assert np.array_equal(predictor(scene, WORDS).segmentation, first.segmentation)


def test_only_the_last_images_are_remembered(mini_model, scene):
    predictor = Predictor(mini_model, keep_images=1)
    predictor([scene, scene[:64]], WORDS)
    assert len(predictor._seen) == 1


def test_a_list_of_images_gives_what_they_give_one_by_one(predictor, scene):
    images = [scene, scene[:, :50], scene]
    together = predictor(images, WORDS)
    alone = [Predictor(predictor.model)(image, WORDS) for image in images]
    assert [len(r.segments_info) for r in together] == [len(r.segments_info) for r in alone]
    for a, b in zip(together, alone, strict=True):
        assert (a.segmentation == b.segmentation).mean() > 0.99


def test_a_single_pixel_and_a_very_large_or_narrow_image(predictor, scene):
    assert predictor(np.zeros((1, 1, 3), np.uint8), WORDS).segmentation.shape == (1, 1)
    assert predictor(np.zeros((1, 700, 3), np.uint8), WORDS).segmentation.shape == (1, 700)
    large = predictor(scene.repeat(20, 0).repeat(20, 1), WORDS, tasks=["semantic", "instance"])
    assert large.segmentation.shape == large.semantic.shape == (2560, 2560)
    assert sum(i["area"] for i in large.segments_info) == (large.segmentation > 0).sum()
    for found in large.instances[:3]:
        rows, columns = np.nonzero(found["mask"])
        left, top, width, height = found["bbox"]
        assert found["mask"].shape == (2560, 2560)
        assert abs(left - columns.min()) <= 2 and abs(top + height - 1 - rows.max()) <= 2


def test_another_ensemble(predictor, mini_model, scene):
    with pytest.raises(ValueError, match="mace.*mase"):
        predictor(scene, WORDS, ensemble="mace")
    assert predictor(scene, WORDS, ensemble="clip").labels != []


def test_another_ensemble_has_the_constants_of_the_configuration(mini_config, scene):
    mini_config.defrost()
    mini_config.TEST.ENSEMBLES = []
    mini_config.MODEL.ENSEMBLE.GEOMETRIC.ALPHA, mini_config.MODEL.ENSEMBLE.GEOMETRIC.BETA = 0.1, 0.3
    model = build_model(mini_config)
    model.object_threshold = 0.0
    result = Predictor(model)(scene, WORDS, ensemble="geometric", background=False)
    ensemble = model.find_ensemble("geometric")
    assert (ensemble.alpha, ensemble.beta) == (0.1, 0.3) and set(model.ensembles) == {"mase", "geometric"}
    seen = result.vocabulary.seen(model.train_vocabulary)
    expected = np.mean([0.1 if known else 0.3 for known in seen])
    query = int(np.flatnonzero(~result.mask_scores.clip_empty)[0])
    assert result.explain(query=query).clip_weight == pytest.approx(expected)


def test_an_ensemble_that_no_configuration_knows_has_its_defaults(mini_model):
    mini_model.config = ""
    assert mini_model.find_ensemble("geometric").alpha == 0.4
    with pytest.raises(ValueError, match="unknown ensemble 'name'"):
        ensemble_from_yaml("name", "MODEL: {ENSEMBLE: {NAME: mase}}")
    with pytest.raises(ValueError, match="alpha must be ≤ 1"):
        ensemble_from_yaml("geometric", "MODEL: {ENSEMBLE: {GEOMETRIC: {ALPHA: 2.0}}}")


def test_seen_confidence_is_of_the_ensemble_in_use(predictor, scene):
    own = predictor(scene, WORDS)
    assert [info["seen_confidence"] for info in own.segments_info] == pytest.approx(
        [own.explain(info["id"]).confidence for info in own.segments_info]
    )
    other = predictor(scene, WORDS, ensemble="clip")  # it has none: CLIP's mass on the training names
    (proposals,) = predictor._propose([scene])
    expected = training_mass(predictor.model.classify(proposals, other.vocabulary, (128, 128)).inputs, 0.9)
    assert [info["seen_confidence"] for info in other.segments_info] == pytest.approx(
        [float(expected[info["query"]]) for info in other.segments_info]
    )


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match=r"got 'possam-mini' \(str\); use Predictor.from_pretrained\('possam-mini'\)"):
        Predictor("possam-mini")
    for wrong in (None, {"model": {}}, torch.nn.Linear(1, 1)):
        with pytest.raises(ValueError, match=r"Predictor takes a model.*Predictor\.from_pretrained"):
            Predictor(wrong)


def test_a_loaded_model_is_not_loaded_again(mini_model):
    with pytest.raises(ValueError, match="name or the folder of a model, but got a PosSAM"):
        Predictor.from_pretrained(mini_model)
    with pytest.raises(ValueError, match="keep_images is -1"):
        Predictor(mini_model, keep_images=-1)


def test_what_another_thread_evicts_is_not_missed(mini_model, scene):
    predictor = Predictor(mini_model, keep_images=1)
    first = predictor(scene, WORDS)

    class Interrupted(dict):
        """Another request comes in at every look at what is remembered."""

        def __contains__(self, key):
            predictor._seen = {}
            return super().__contains__(key)

    predictor._seen = Interrupted(predictor._seen)
    assert predictor(scene, WORDS) == first and len(predictor._seen) == 1


@pytest.mark.parametrize("keep_images", [0, 1])
def test_threads_share_a_predictor(mini_model, monkeypatch, keep_images):
    mini_model.object_threshold = 0.0
    network, answers = mini_model.propose, {}

    def propose(inputs):  # once per image, so that threads meet at what the predictor, model and text bank remember
        levels = [int(entry["image"][0, 0, 0]) for entry in inputs]
        for level, entry in zip(levels, inputs, strict=True):
            if level not in answers:
                answers[level] = network([entry])[0]
        return [answers[level] for level in levels]

    monkeypatch.setattr(mini_model, "propose", propose)
    images = [np.full((16, 16, 3), level, np.uint8) for level in (0, 200)]
    words = [["lawn: stuff"], ["sea: stuff", "striped star"]]
    tasks = list(itertools.product(images, words, ["mase", "clip", "geometric"]))
    expected = [Predictor(mini_model)(image, names, ensemble=ensemble) for image, names, ensemble in tasks]
    for name in ("clip", "geometric"):
        mini_model.ensembles.pop(name)
    mini_model.text_bank._memory.clear()
    predictor = Predictor(mini_model, keep_images=keep_images)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda task: predictor(task[0], task[1], ensemble=task[2]), tasks * 2))
    finally:
        sys.setswitchinterval(interval)
    assert results == expected * 2 and len(predictor._seen) == keep_images


def test_coco_panoptic_files(predictor, scene, tmp_path):
    result = predictor(scene, WORDS)
    content = json.loads(result.save_coco(tmp_path, "scene").read_text())
    assert np.array_equal(read_id_map(tmp_path / "scene.png"), result.segmentation)
    annotation = content["annotations"][0]
    assert [s["area"] for s in annotation["segments_info"]] == [i["area"] for i in result.segments_info]
    assert {s["category_id"] for s in annotation["segments_info"]} <= {c["id"] for c in content["categories"]}
    assert content["images"][0]["height"], content["images"][0]["width"] == scene.shape[:2]


def test_supervision_detections(predictor, scene):
    pytest.importorskip("supervision", reason="needs the package supervision")
    result = predictor(scene, WORDS)
    detections = result.to_supervision()
    assert len(detections) == len(result.segments_info)
    assert detections.data["class_name"].tolist() == result.labels
    assert np.array_equal(detections.mask.sum((1, 2)), [i["area"] for i in result.segments_info])


def test_the_plot_is_a_picture_of_the_image(predictor, scene, tmp_path):
    picture = predictor(scene, WORDS).plot(tmp_path / "new" / "plot.png")
    assert Image.open(tmp_path / "new" / "plot.png").size == picture.size
    assert picture.width % scene.shape[1] == 0


TREE = {"thing": {"star": ["striped star"], "circle": ["framed circle", "dotted ring"]}, "stuff": ["sea", "tile"]}


def test_each_segment_lists_its_best_names(predictor, scene):
    result = predictor(scene, WORDS)
    scores = torch.from_numpy(result.mask_scores.scores)
    for info in result.segments_info:
        values, order = scores[info["query"]].sort(descending=True)
        assert info["top"][0] == (info["label"], pytest.approx(info["score"])) and len(info["top"]) == 5
        assert [score for _, score in info["top"]] == values.tolist()
        assert [name for name, _ in info["top"]] == [result.vocabulary.display_names[k] for k in order]
    assert all(len(info["top"]) == 2 for info in predictor(scene, WORDS[:2]).segments_info)


@pytest.mark.parametrize("stop_below", [0.0, 1.0])
def test_a_tree_names_segments_level_by_level(predictor, scene, stop_below, tmp_path):
    tree = Hierarchy.from_tree(TREE, stop_below=stop_below)
    result = predictor(scene, tree, tasks=["semantic", "instance"])
    names = tree.vocabulary.display_names
    scores = torch.from_numpy(predictor(scene, tree.vocabulary).mask_scores.scores)  # of all nodes, as of any words
    assert result.labels and result.vocabulary is tree.vocabulary
    for info in result.segments_info:
        (path,) = tree.classify(scores[info["query"]][None])
        assert [(level["label_id"], level["probability"]) for level in info["path"]] == list(path)
        assert [level["label"] for level in info["path"]] == [names[node] for node, _ in path]
        assert [level["label_id"] for level in info["path"]] == list(tree.path_to(info["label_id"]))
        assert info["label"] == info["path"][-1]["label"] and info["isthing"] == tree.vocabulary.isthing[path[-1][0]]
        assert info["path_probability"] == pytest.approx(np.prod([p for _, p in path]))
        assert info["score"] == pytest.approx(float(scores[info["query"]].sum()) * path[0].probability)
        assert all(p >= stop_below for _, p in path[1:])
    deepest = {names[leaf] for leaf in tree.leaves}
    assert set(result.labels) <= deepest if not stop_below else not set(result.labels) <= deepest
    assert all(tree.vocabulary.isthing[found["label_id"]] for found in result.instances)
    assert set(np.unique(result.semantic)) <= set(range(len(names)))
    assert result.explain(1).final[0].label in names
    (annotation,) = json.loads(result.save_coco(tmp_path, "tree").read_text())["annotations"]
    for segment, info in zip(annotation["segments_info"], result.segments_info, strict=True):
        assert [level["name"] for level in segment["path"]] == [level["label"] for level in info["path"]]
        assert segment["path"][-1]["category_id"] == segment["category_id"]
        assert segment["path_probability"] == pytest.approx(info["path_probability"])


def test_names_of_masks_without_a_segmentation(predictor, scene):
    vocabulary = read_words([f"{a} {b}" for a in ("striped", "plain", "dotted") for b in ("star", "sea", "tile")])
    (proposals,) = predictor._propose([scene])
    for ensemble in (None, "geometric", "modulation"):
        scores = torch.from_numpy(predictor(scene, vocabulary, ensemble=ensemble).mask_scores.scores)
        values, order = scores.topk(4, dim=1)
        got = top_names(predictor.model, proposals, vocabulary, k=4, ensemble=ensemble, classes_per_part=2)
        torch.testing.assert_close(got.scores, values, rtol=1e-4, atol=1e-6)
        assert torch.equal(got.classes, order)


def test_thirty_thousand_names_are_taken_and_more_refused(predictor):
    assert Predictor(predictor.model).max_names == 30_000
    with pytest.raises(ValueError, match="30001 names, but at most 30000"):
        predictor.check([f"word{number}" for number in range(30_001)])


def test_too_many_names_are_refused(mini_model, scene):
    with pytest.raises(ValueError, match="3 names, but at most 2"):
        Predictor(mini_model, max_names=2)(scene, ["striped star", "sea", "tile"])


def test_nothing_found_is_an_empty_result(mini_model, scene):
    mini_model.postprocessor.object_threshold = 1.0
    result = Predictor(mini_model)(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), WORDS)
    assert result.segments_info == [] and not result.segmentation.any() and result.labels == []


def test_the_package_names_what_people_call():
    import possam

    assert possam.Predictor is Predictor and possam.Vocabulary is Vocabulary
    assert not hasattr(possam, "Predictors")
