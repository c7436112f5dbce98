"""docs/export.md: its example runs as it stands, without PyTorch and without this package."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE, SAMPLE_WORDS
from possam.vocabulary.words import read_words, split_words

PAGE = Path("docs/export.md").read_text(encoding="utf-8")


def link(exported, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "export").symlink_to(exported[0])


def test_the_example_names_every_mask(exported, tmp_path):
    link(exported, tmp_path)
    shutil.copy(SAMPLE, tmp_path / "photo.png")
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    check = "\nimport sys; assert not {'torch', 'possam'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", example + check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [re.fullmatch(r"(.+): score (\d\.\d\d), (\d+) pixels", line) for line in done.stdout.splitlines()]
    found = {line[1]: (float(line[2]), int(line[3])) for line in lines}
    predictor = Predictor.from_pretrained("possam-mini", text_cache="")
    segmentation = predictor(SAMPLE, read_words(split_words(SAMPLE_WORDS)), background=False)
    wanted = {info["label"]: (info["score"], info["area"]) for info in segmentation.segments_info}
    assert set(found) == set(wanted)
    for label, (score, area) in wanted.items():
        assert abs(found[label][0] - score) <= 0.006 and abs(found[label][1] - area) <= 2
    assert done.stdout in PAGE


def test_programs_run_and_move_as_the_page_says(exported, tmp_path, monkeypatch):
    link(exported, tmp_path)
    monkeypatch.chdir(tmp_path)
    known = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], known)
    assert list(known["features"]) == ["sam_features", "clip_features"]
    decoder = torch.export.load(exported[0] / "decoder.pt2")
    elsewhere = known["move_to_device_pass"](decoder, "meta").module()
    seen = elsewhere(*(value.to("meta") for value in known["features"].values()))
    assert {value.device.type for value in seen.values()} == {"meta"}
