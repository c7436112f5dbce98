import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from possam.report.links import file_link, relative_address


@pytest.mark.parametrize(
    "path, address",
    [
        ("/data/run/panoptic/a.png", "panoptic/a.png"),
        ("/data/images/a b.jpg", "../images/a%20b.jpg"),
        ("/data/run/室内/ü#?%&\"<.png", "%E5%AE%A4%E5%86%85/%C3%BC%23%3F%25%26%22%3C.png"),
        ("/data/run/c:x.png", "c%3Ax.png"),  # not a scheme
        ("/data/run/sub/../a.png", "a.png"),
    ],
)
def test_addresses(path, address):
    assert relative_address(Path(path), Path("/data/run")) == address
    assert os.path.normpath(os.path.join("/data/run", unquote(address))) == os.path.normpath(path)


def test_folders_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative_address(Path("run/panoptic/a.png"), Path("run")) == "panoptic/a.png"
    assert relative_address(tmp_path / "b.png", Path(".")) == "b.png"


def test_a_name_that_is_no_text():
    path = Path(os.fsdecode(b"/data/run/\xff.png"))
    assert relative_address(path, Path("/data/run")) == "%FF.png"
    assert file_link(path, Path("/data/run"), "image") == '<span>image: <a href="%FF.png">\ufffd.png</a></span>'


def test_another_drive(monkeypatch):
    def fail(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("possam.report.links.os.path.relpath", fail)
    assert relative_address(Path("/data/ü.png"), Path("/run")) == "file:///data/%C3%BC.png"
