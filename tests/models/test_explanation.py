"""What is said of a mask is what the ensemble computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.models.explanation import explain_mask, mask_scores
from possam.predict import segmentation
from possam.predict.predictor import Predictor
from possam.vocabulary import Vocabulary

PALETTE = palette_of(Vocabulary.load("mini_b").display_names)


@pytest.fixture
def predictor(mini_model):
    mini_model.postprocessor.object_threshold = 0.0
    return Predictor(mini_model)


@pytest.fixture
def result(predictor):
    return predictor(draw_scene([3, 14], PALETTE).image, "mini_b")


def test_a_segment_is_explained_by_its_query(result):
    for info in result.segments_info:
        explained = result.explain(info["id"])
        assert explained.query == info["query"]
        assert explained.label == info["label"] == explained.final[0].label
        assert explained.score == pytest.approx(info["score"])
        assert explained.iou == pytest.approx(info["iou"])
        assert explained.confidence == pytest.approx(info["seen_confidence"])


def test_the_numbers_follow_the_method(predictor, result):
    model, given = predictor.model, result.mask_scores
    mase = model.ensembles["mase"]
    assert model.ensemble == given.ensemble == "mase"
    query = result.segments_info[0]["query"]
    explained = result.explain(query=query, top=34)
    p = torch.from_numpy(given.query_logits)[query, :-1].softmax(0)
    q = torch.from_numpy(given.clip_logits)[query].softmax(0)
    clip_weight = mase.alpha + (mase.beta - mase.alpha) * (1 - explained.confidence) ** mase.gamma
    assert explained.clip_weight == pytest.approx(clip_weight, abs=1e-6)
    r = p ** (mase.kappa * (1 - clip_weight)) * q**clip_weight
    r = r / r.sum()
    for candidates, values in ((explained.in_vocabulary, p), (explained.clip, q), (explained.final, r)):
        expected = [float(values[c.label_id]) for c in candidates]
        assert [c.probability for c in candidates] == pytest.approx(expected, rel=1e-4)
        assert [c.probability for c in candidates] == sorted((c.probability for c in candidates), reverse=True)
        assert sum(c.probability for c in candidates) == pytest.approx(1, abs=1e-5)
        assert all(result.vocabulary.display_names[c.label_id] == c.label for c in candidates)
    assert explained.score == pytest.approx((1 - explained.void) * float(r.max()) * explained.iou**mase.eta, rel=1e-4)
    seen = result.vocabulary.seen(model.train_vocabulary)
    assert [c.seen for c in explained.in_vocabulary] == [seen[c.label_id] for c in explained.in_vocabulary]
    assert len({c.seen for c in explained.in_vocabulary}) == 2


def test_the_ensemble_that_was_asked_for_is_the_one_explained(predictor):
    result = predictor(draw_scene([3, 14], PALETTE).image, "mini_b", ensemble="clip")
    explained = result.explain(result.segments_info[0]["id"], top=3)
    assert explained.ensemble == "clip" and explained.confidence is None and explained.clip_weight == 1
    assert [c.label for c in explained.final] == [c.label for c in explained.clip] and len(explained.in_vocabulary) == 3
    assert [c.probability for c in explained.final] == pytest.approx([c.probability for c in explained.clip])
    assert explained.reason.startswith("The trained classifier") and "CLIP weighted by 1.00" in explained.reason


def test_background_words_leave_a_table_its_overlap(predictor, monkeypatch):
    monkeypatch.setattr(Vocabulary, "exact_overlap", lambda self, train: (False,) * len(self))
    given = predictor(draw_scene([3, 14], PALETTE).image, "mini_b", background=True).mask_scores
    seen = Vocabulary.load("mini_b").seen(predictor.model.train_vocabulary)  # by the overlap that is shipped
    assert any(seen) and given.seen == (*seen, *[True] * len(given.background)) and given.background


def test_reasons(predictor, result):
    (proposals,) = predictor._propose([result.image])
    prediction = predictor.model.classify(proposals, result.vocabulary, (128, 128))
    prediction.inputs.clip_empty[2] = True
    given = mask_scores(predictor.model, prediction, predictor.model.score(prediction))
    unseen = explain_mask(given, result.vocabulary, 2)
    assert not unseen.clip_sees and unseen.clip_weight == 0
    assert unseen.reason == (
        f"The mask is too small for CLIP, so the trained classifier decides alone: {unseen.label} "
        f"({unseen.final[0].probability:.2f})."
    )


def test_no_weight_leaves_no_distribution(result):
    given = replace(result.mask_scores, scores=np.zeros_like(result.mask_scores.scores))
    explained = explain_mask(given, result.vocabulary, 0)
    assert explained.score == 0 and [c.probability for c in explained.final] == [0] * 5


def test_it_is_plain_data(result):
    explained = result.explain(result.segments_info[0]["id"])
    content = json.loads(json.dumps(explained.to_dict()))
    assert content["final"][0]["label"] == explained.label and content["reason"] == explained.reason


def test_unknown_masks(result):
    with pytest.raises(ValueError, match=r"no segment 99; the segments are \[1"):
        result.explain(99)
    with pytest.raises(ValueError, match=r"no segment 99; the segments are \[1"):
        result.plot_mask(99)
    with pytest.raises(ValueError, match="top ≥ 1 names to list, but got 0"):
        result.explain(1, top=0)
    for chosen in ({}, {"segment_id": 1, "query": 1}):
        with pytest.raises(ValueError, match="either the id of a segment or a query"):
            result.explain(**chosen)
    with pytest.raises(ValueError, match="no query 24; the model has 24, counted from 0"):
        result.explain(query=24)
    with pytest.raises(ValueError, match=r"no query 1\.5"):
        result.explain(query=1.5)


def test_any_query_is_explained_and_a_segment_drawn(predictor, monkeypatch):
    """On an image that is larger than the model's masks."""
    image = np.random.default_rng(0).integers(0, 256, (100, 128, 3), dtype=np.uint8)
    result = predictor(image, "mini_b")
    assert result.explain(query=3).query == 3
    info = result.segments_info[0]
    assert result.explain(info["id"]) == result.explain(query=info["query"])
    assert result.plot_mask(info["id"]).size[1] > 480
    drawn = []
    monkeypatch.setattr(segmentation, "draw_explanation", lambda *x: drawn.append(x) or image)
    result.plot_mask(info["id"], top=2)
    ((_, segment, explanation),) = drawn
    assert explanation == result.explain(info["id"], top=2) and len(explanation.in_vocabulary) == 2
    np.testing.assert_array_equal(segment, result.segmentation == info["id"])
