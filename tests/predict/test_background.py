"""Words that are not in the picture: what background words win, and what a result says of it."""

import numpy as np
import pytest
import torch

from possam.d2.modeling import build_model
from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.engine import load_config, prepare_datasets
from possam.predict.background import check_options, choose_background, merge_words, score_words
from possam.predict.missing import MissingWord, find_missing, missing_in_both, tell_missing
from possam.predict.predictor import Predictor
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.words import read_words

WORDS = ["snow: stuff", "striped heart"]  # neither is a training class in any words


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("background")
    places = {"OUTPUT_DIR": "run", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_CACHE_DIR": "features"}
    settings = [part for key, name in places.items() for part in (key, str(folder / name))]
    cfg = load_config("configs/mini/possam.yaml", settings)
    prepare_datasets(cfg)
    torch.manual_seed(0)
    return build_model(cfg)


@pytest.fixture(scope="module")
def scene():
    return draw_scene([3, 14], palette_of(Vocabulary.load("mini_b").display_names)).image


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model)


@pytest.fixture(scope="module")
def prediction(predictor, scene):
    """Of two words and 29 background words; masks with the logits of three overlapping rectangles."""
    (proposals,) = predictor._propose([scene])
    vocabulary = read_words(WORDS)
    made = predictor.model.classify(proposals, vocabulary, (128, 128), range(1, 30))
    logits = torch.full_like(made.mask_logits, -20.0)
    for query, (rows, columns) in enumerate(
        [(slice(0, 16), slice(0, 16)), (slice(0, 16), slice(0, 14)), (slice(20, 28), slice(0, 32))]
    ):
        logits[query, rows, columns] = 20.0
    made.mask_logits = logits
    return made


def scores_of(prediction, **rows):
    """Scores of zeros, but q0={class: score} and so on."""
    scores = torch.zeros(len(prediction.mask_logits), len(prediction.vocabulary))
    for query, values in rows.items():
        for label, score in values.items():
            scores[int(query[1:]), label] = score
    return scores


def test_background_wins_pixels_and_is_dropped(model, prediction):
    scores = scores_of(prediction, q0={5: 0.9, 1: 0.05}, q1={1: 0.7}, q2={0: 0.7, 6: 0.2})
    output = merge_words(model, prediction, scores, ("panoptic", "semantic", "instance"), 0.1)
    ids, segments = output["panoptic_seg"]
    # Mask 1 lies within mask 0, which is of the background: the word does not get the object.
    assert [(segment["id"], segment["category_id"], segment["query"]) for segment in segments] == [(1, 0, 2)]
    assert torch.equal(ids == 1, prediction.masks.restore([2])[0] >= 0) and set(ids.unique().tolist()) == {0, 1}
    semantic = output["semantic_seg"]
    assert (semantic[:60, :50] == -1).all() and (semantic[84:108, 4:124] == 0).all()
    assert set(semantic.unique().tolist()) <= {-1, 0, 1}
    # Instances do not compete for pixels; a mask that the background wins is none, nor is stuff.
    found = output["instances"]
    assert found.pred_classes.tolist() == [1] and found.scores.tolist() == pytest.approx([0.7], abs=1e-3)


def test_a_word_that_fits_better_keeps_the_object(model, prediction):
    scores = scores_of(prediction, q0={5: 0.6}, q1={1: 0.8, 7: 0.2}, q2={0: 0.3})
    _, segments = merge_words(model, prediction, scores, ("panoptic",), 0.35)["panoptic_seg"]
    assert [(segment["id"], segment["category_id"], segment["query"]) for segment in segments] == [(1, 1, 1)]


def test_without_background_and_threshold_it_is_the_models_own_merging(model, predictor, scene):
    (proposals,) = predictor._propose([scene])
    prediction = model.classify(proposals, read_words(WORDS), (128, 128))
    scores = model.score(prediction)
    assert torch.equal(score_words(model, prediction), scores)
    tasks = ("panoptic", "semantic", "instance")
    got, expected = (
        merge_words(model, prediction, scores, tasks, None),
        model.postprocess(prediction, scores, tasks),
    )
    assert torch.equal(got["panoptic_seg"][0], expected["panoptic_seg"][0])
    assert got["panoptic_seg"][1] == expected["panoptic_seg"][1]
    assert torch.equal(got["instances"].scores, expected["instances"].scores)


@pytest.mark.parametrize("ensemble", ["mase", "geometric", "clip", "modulation"])
def test_background_is_discounted_and_a_masks_scores_keep_their_sum(model, prediction, ensemble):
    plain = model.score(prediction, ensemble)
    scores = score_words(model, prediction, ensemble, weight=0.25)
    torch.testing.assert_close(scores.sum(dim=1), plain.sum(dim=1))
    sure = (plain[:, 0] > 1e-6) & (plain[:, 5] > 1e-6)
    ratio = scores[:, 5] / scores[:, 0] / (plain[:, 5] / plain[:, 0])
    assert sure.any() and torch.allclose(ratio[sure], torch.tensor(0.25), rtol=1e-3)


def test_ensembles_see_background_words_as_training_classes(model, prediction, predictor, scene):
    (proposals,) = predictor._propose([scene])
    alone = model.classify(proposals, read_words(WORDS), (128, 128))
    assert prediction.inputs.exact_seen.tolist() == [False, False, *[True] * 29]
    confidence = [model.find_ensemble("mase").explain(each.inputs)["confidence"] for each in (alone, prediction)]
    torch.testing.assert_close(*confidence)
    joined = model.classify(proposals, prediction.vocabulary, (128, 128))
    for ensemble in ("mase", "geometric", "ldp"):  # as of any vocabulary with these classes
        torch.testing.assert_close(model.score(prediction, ensemble), model.score(joined, ensemble))


def test_by_default_words_have_a_background_and_tables_and_trees_have_none(model):
    train = model.train_vocabulary
    words = read_words(["striped heart", "sand: stuff", "ring"])
    left = {train.display_names[label] for label in choose_background(model, words, None)}
    assert left == set(train.display_names) - {"sand", "plain ring", "striped ring", "checkered ring"}
    table, tree = Vocabulary.load("mini_b"), Hierarchy.from_tree({"thing": ["striped heart"]})
    for names in (table, tree):
        assert choose_background(model, names, None) == () != choose_background(model, names, True)
    assert choose_background(model, words, False) == () == choose_background(model, train, None)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), "0.5", True, [0.5]])
def test_a_threshold_that_cannot_be_used_is_refused_before_any_image(predictor, scene, threshold, monkeypatch):
    monkeypatch.setattr(predictor, "_propose", lambda _: pytest.fail("an image was looked at"))
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\]"):
        predictor(scene, WORDS, threshold=threshold)
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\]"):
        predictor.check(WORDS, threshold=threshold)


@pytest.mark.parametrize("wrong", ["no", 1, ["sky"]])
def test_a_background_that_cannot_be_used_is_refused(wrong):
    with pytest.raises(ValueError, match="background must be True or False"):
        check_options(None, wrong)
    check_options(np.float32(0.5), False)


def test_results_list_the_words_alone(predictor, scene):
    result = predictor(scene, WORDS, threshold=0.0, background=True, tasks=["semantic", "instance"])
    assert result.vocabulary.names == ("snow", "striped heart")
    assert {info["label"] for info in result.segments_info} | {word.label for word in result.missing} == {
        "snow",
        "striped heart",
    }
    assert all(name in ("snow", "striped heart") for info in result.segments_info for name, _ in info["top"])
    assert set(np.unique(result.semantic)) <= {-1, 0, 1}
    assert all(instance["label"] == "striped heart" for instance in result.instances)
    names = {one.label: one.background for one in result.explain(query=0, top=40).final}
    assert len(names) == 32 and {name for name, behind in names.items() if not behind} == {"snow", "striped heart"}


def test_a_threshold_keeps_masks_above_it(predictor, scene):
    every = predictor(scene, WORDS, threshold=0.0, background=False)
    middle = sorted(info["score"] for info in every.segments_info)[-1]
    assert every.segments_info
    none = predictor(scene, WORDS, threshold=middle, background=False, tasks=["instance"])
    assert none.segments_info == [] and none.instances == []
    assert {word.cause for word in none.missing} <= {"threshold", "word"}
    assert all(word.threshold == middle for word in none.missing)


def test_a_tree_competes_with_its_branches(predictor, scene):
    tree = Hierarchy.from_tree({"thing": {"heart": ["striped heart"]}, "stuff": ["snow"]})
    result = predictor(scene, tree, threshold=0.0, background=True)
    assert all(word.cause in ("background", "word", "overlap", "threshold") for word in result.missing)
    found = {level["label"] for info in result.segments_info for level in info["path"]}
    assert found.isdisjoint(word.label for word in result.missing)
    assert found | {word.label for word in result.missing} == set(tree.vocabulary.display_names)


def test_each_cause_of_a_missing_word(prediction):
    names = prediction.vocabulary.display_names

    def cause(label, threshold=0.3, void_competes=False, **rows):
        scores = scores_of(prediction, **rows)
        options = {"threshold": threshold, "void_competes": void_competes}
        (word,) = find_missing(prediction, scores, scores, {1 - label}, **options)
        assert (word.label, word.label_id, word.score) == (names[label], label, scores[:, label].max())
        assert word.query == int(scores[:, label].argmax()) and word.to_dict()["reason"] == word.reason
        return word.cause, word.winner, word.reason

    got = cause(1, q0={1: 0.4, 5: 0.5}, q1={1: 0.2})
    assert got[:2] == ("background", names[5]) and f"looks more like {names[5]!r} (0.50)" in got[2]
    got = cause(1, q2={1: 0.4, 0: 0.6})
    assert got[:2] == ("word", "snow") and "another of the words" in got[2]
    assert cause(0, q2={0: 0.2})[::2] == (
        "threshold",
        "Nothing was found for 'snow': its best mask (score 0.20) is not above the threshold 0.30.",
    )
    assert cause(0, q2={0: 0.4})[0] == "overlap"
    prediction.inputs.query_logits[2, -1] = 50.0
    assert cause(0, void_competes=True, q2={0: 0.4})[0] == "void"


def test_words_missing_in_all_images_are_told_by_the_best_mask():
    def word(label_id, score):
        return MissingWord(
            label=f"word {label_id}",
            label_id=label_id,
            query=0,
            score=score,
            cause="threshold",
            winner="",
            winner_score=score,
            threshold=0.5,
        )

    first = (word(0, 0.1), word(1, 0.3))
    assert missing_in_both(None, first) == first and missing_in_both((), first) == ()
    assert missing_in_both(first, (word(1, 0.2), word(2, 0.4))) == (word(1, 0.3),)
    assert missing_in_both(first, (word(0, 0.2),)) == (word(0, 0.2),)
    assert tell_missing(first) == [first[0].reason, first[1].reason]
    assert tell_missing(first, 1) == [first[0].reason, "Nothing was found for 1 other word."]
