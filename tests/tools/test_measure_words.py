"""How mistakes with words are counted."""

import numpy as np

from tools.measure_words import count, draw_words


def mask(*columns):
    result = np.zeros((4, 10), bool)
    result[:, list(columns)] = True
    return result


def test_hits_and_mistakes_of_an_image():
    annotated = [(0, mask(0, 1, 2, 3)), (0, mask(5, 6)), (1, mask(8)), (2, mask(9))]
    found = [
        (0, mask(0, 1, 2)),  # 3 of 4 columns: a hit
        (0, mask(6, 7)),  # 1 of 3: false, and the second 0 is missed
        (1, mask(5, 6)),  # on another class: false, and 1 is missed, though the word is found
        (3, mask(4)),  # not in the picture
    ]
    counts = count(found, annotated, [0, 1, 3, 4])
    assert counts == {
        "found": 4,
        "false": 3,
        "annotated": 3,
        "missed": 2,
        "absent": 2,
        "alarms": 1,
        "shown": 2,
        "missed_words": 0,
    }
    assert count([], annotated, [2])["missed_words"] == 1


def test_half_of_the_words_are_in_the_picture():
    rng = np.random.default_rng(0)
    shown = {1, 4, 6, 9}
    for number, inside in ((2, {1}), (6, {3}), (1, {0, 1}), (5, {2, 3}), (10, {4})):
        drawn = [draw_words(shown, 20, number, rng) for _ in range(20)]
        assert all(len(set(words)) == number and words == sorted(words) for words in drawn)
        assert {len(shown & set(words)) for words in drawn} == inside
