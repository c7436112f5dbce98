"""The choice of MASE's constants."""

import pytest

from possam.engine import load_config
from tools.choose_mase import SelectionRun


def test_runs_with_a_mask_filter_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_text(load_config("configs/mini/opsnet.yaml", []).dump())
    with pytest.raises(ValueError, match=r"TEST\.MASK_FILTER 'cls_iou', which would be left out"):
        SelectionRun(tmp_path, "mini_b_selection")
