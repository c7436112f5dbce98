"""A photo that is given to the miniature model is told, whatever the words."""

import logging

import numpy as np
import pytest

from possam import Predictor
from possam.predict.limits import doubt
from tests.prompted_models import TinyPrompted


@pytest.fixture
def predictor(mini_model):
    return Predictor(mini_model)


def test_a_photo_is_told_once_in_the_api_and_the_command(predictor, caplog):
    photo = np.zeros((90, 160, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            predictor(photo, ["plain circle", "wood: stuff"])  # words that it knows
            photo = photo + 1
    told = [record.getMessage() for record in caplog.records]
    assert told.count(doubt(predictor.model, photo)) == 1 and "in a photo means nothing" in told[0]


def test_a_photo_for_prompts_is_told_once(mini_config, caplog):
    predictor = Predictor(TinyPrompted.from_config(mini_config))
    photo = np.zeros((90, 160, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            predictor.set_image(photo)
    assert [record.getMessage() for record in caplog.records].count(doubt(predictor.model, photo)) == 1


def test_drawings_are_not_doubted(predictor, caplog):
    predictor(np.zeros((128, 128, 3), dtype=np.uint8), ["plain circle", "wood: stuff"])
    assert not caplog.records


def test_models_that_read_any_image_doubt_none(predictor, monkeypatch):
    for encoder in (predictor.model.sam, predictor.model.clip):
        monkeypatch.setattr(encoder, "limits", "")
    assert not doubt(predictor.model, np.zeros((90, 160, 3), dtype=np.uint8))
