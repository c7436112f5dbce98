"""The documentation site builds without a warning: pages, links, anchors and the API reference."""

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tools.site_links import rewrite

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="MkDocs is not installed")
def test_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "index.html").read_text()
    assert 'id="possam.predict.predictor.Predictor.set_image"' in reference


def test_links_that_leave_the_documentation(caplog):
    text = "[a](../possam/cli) [b](evaluation.md) [c](../README.md#install) ![d](../pictures/d.png)"
    assert rewrite(text, ROOT / "docs", docs=ROOT / "docs", repository=None) == (
        "a [b](evaluation.md) c ![d](../pictures/d.png)"
    )
    assert rewrite(text, ROOT / "docs", docs=ROOT / "docs", repository="https://host/possam/") == (
        "[a](https://host/possam/blob/main/possam/cli) [b](evaluation.md) "
        "[c](https://host/possam/blob/main/README.md#install) ![d](../pictures/d.png)"
    )
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert rewrite("[e](../possam/none.py)", ROOT / "docs", docs=ROOT / "docs", repository=None) == "e"
    assert "leads nowhere" in caplog.text
