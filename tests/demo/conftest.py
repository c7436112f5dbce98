"""The sample as the demo's page shows it, for all tests of the demo."""

import numpy as np
import pytest

from possam.demo.segmenting import segment
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE, SAMPLE_WORDS


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("possam-mini", text_cache="")


@pytest.fixture(scope="module")
def shown(predictor):
    return segment(predictor, str(SAMPLE), SAMPLE_WORDS)


@pytest.fixture(scope="session")
def place_of():
    """A pixel, as x and y, of a shown picture well inside the segment of a name."""

    def find(shown, label):
        (info,) = [info for info in shown.segmentation.segments_info if info["label"] == label]
        rows, columns = np.nonzero(shown.segmentation.segmentation == info["id"])
        middle = np.argmin(np.abs(rows - rows.mean()) + np.abs(columns - columns.mean()))
        scale = shown.picture.shape[0] / shown.segmentation.segmentation.shape[0]
        return int((columns[middle] + 0.5) * scale), int((rows[middle] + 0.5) * scale)

    return find
