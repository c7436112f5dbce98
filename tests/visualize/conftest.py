"""A picture with two segments: the left half "sea", the lower right quarter "star", the rest nothing."""

import numpy as np
import pytest

NAMES = ["star", "sea", "a rather long name", "étoile"]


@pytest.fixture
def names():
    return NAMES


@pytest.fixture
def scene():
    def make(height=500, width=600):
        image = np.full((height, width, 3), 100, np.uint8)
        ids = np.zeros((height, width), np.int64)
        ids[:, : width // 2] = 70_000
        ids[height // 2 :, width // 2 :] = 9
        return image, ids, [{"id": 70_000, "category_id": 1}, {"id": 9, "category_id": 0}]

    return make


@pytest.fixture
def crowd():
    """As many small segments as there are names, in a grid, with names that do not fit on them."""

    def make(height, width, across, down):
        y, x = np.mgrid[:height, :width]
        ids = (y * down // height) * across + x * across // width + 1
        infos = [{"id": i, "category_id": i - 1} for i in range(1, across * down + 1)]
        return np.full((height, width, 3), 80, np.uint8), ids, infos, [f"class number {i}" for i in range(len(infos))]

    return make
