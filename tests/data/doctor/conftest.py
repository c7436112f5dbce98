"""Trees without a fault."""

import pytest

from tests.data.doctor.planting import IMAGES, as_it_should, prepare_ade
from tests.layouts import make_coco


@pytest.fixture
def coco(tmp_path):
    """The datasets' root, with COCO as it is downloaded."""
    make_coco(tmp_path, images=IMAGES)
    return tmp_path


@pytest.fixture
def ade(tmp_path):
    """ADE20K's folder, with prepared label maps of the validation set."""
    return prepare_ade(tmp_path, as_it_should)
