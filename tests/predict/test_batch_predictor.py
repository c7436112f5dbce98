"""Tables of images: batches alone, and a local Ray that runs the tutorial's program."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_coder

from possam import Predictor
from possam.data.pictures import to_rgb
from possam.predict import BatchPredictor
from possam.shipped import SAMPLE

ROOT = Path(__file__).parents[2]
DRIVER = """
import runpy, sys
import ray
ray.init(num_cpus=3, include_dashboard=False)
for source in ("in.parquet", "in.tar"):
    sys.argv = ["segment_table.py", source, f"{source}.out"]
    runpy.run_path("segment_table.py", run_name="__main__")
"""
WORDS = ["striped heart", "tile: stuff", "snow: stuff"]


def encoded(box, kind="PNG"):
    file = io.BytesIO()
    Image.open(SAMPLE).convert("RGB").crop(box).save(file, format=kind)
    return file.getvalue()


def test_mistakes_are_told_before_the_model_is_loaded():
    with pytest.raises(ValueError, match="batch_size is 0"):
        BatchPredictor("possam-mini", WORDS, batch_size=0)
    with pytest.raises(ValueError, match="options has 'treshold', but takes .* Did you mean 'threshold'"):
        BatchPredictor("possam-mini", WORDS, options={"treshold": 0.5})
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\]"):
        BatchPredictor("possam-mini", WORDS, options={"threshold": 5})({"image": []})
    predictor = BatchPredictor("none", WORDS)
    with pytest.raises(ValueError, match="no column 'image' of images among id, jpg; give image_column"):
        predictor({"id": np.arange(2), "jpg": np.array([b"", b""], dtype=object)})
    with pytest.raises(ValueError, match="the columns error, names have names"):
        predictor({"image": [], "names": [], "error": []})
    with pytest.raises(FileNotFoundError, match="none"):
        predictor({"image": np.zeros((1, 4, 4, 3), np.uint8)})


def test_a_batch_of_any_images_gets_what_the_predictor_says():
    pytest.importorskip("pyarrow", reason="PyArrow is not installed: pip install 'possam[ray]'")
    files = [encoded((0, 0, 90, 70)), b"none", encoded((10, 0, 128, 128)), encoded((0, 9, 90, 79))]
    images = np.empty(5, dtype=object)
    images[:4] = files
    images[4] = to_rgb(Image.open(SAMPLE))[:50]
    segment = BatchPredictor("possam-mini", WORDS, load={"text_cache": ""})
    found = segment({"id": np.arange(5), "image": images})
    again = pickle.loads(pickle.dumps(segment))
    assert again._predictor is None and segment._predictor is not None and len(pickle.dumps(segment)) < 2000
    again.batch_size = 2
    batched = again({"id": np.arange(5), "image": images})
    lists = ["rles", "names", "category_ids", "isthing", "scores", "areas"]
    assert list(found) == ["id", "height", "width", *lists, "error"] and found["id"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError) as unreadable:
        to_rgb(b"none")
    assert found["error"].tolist() == ["", str(unreadable.value), "", "", ""]
    assert [str(found[name][1].type) for name in ("rles", "scores", "isthing")] == ["string", "double", "bool"]
    assert found["height"].tolist() == [70, 0, 128, 70, 50] and len(found["rles"][1]) == 0
    predictor = Predictor.from_pretrained("possam-mini", text_cache="")
    for place in (0, 2, 3, 4):
        image = images[place] if place == 4 else Image.open(io.BytesIO(files[place]))
        result = predictor(image, WORDS)
        assert found["names"][place].to_pylist() == batched["names"][place].to_pylist() == result.labels
        assert found["scores"][place].to_pylist() == [info["score"] for info in result.segments_info]
        assert batched["scores"][place].to_pylist() == pytest.approx(found["scores"][place].to_pylist(), abs=1e-5)
        assert found["areas"][place].to_pylist() == [info["area"] for info in result.segments_info]
        size = list(result.segmentation.shape)
        for rle, info in zip(found["rles"][place].to_pylist(), result.segments_info, strict=True):
            mask = mask_coder.decode({"size": size, "counts": rle})
            assert np.array_equal(mask, result.segmentation == info["id"])


def test_a_local_ray_of_two_workers_runs_the_tutorials_program(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'possam[ray]'")
    import pyarrow
    from pyarrow import parquet

    page = (ROOT / "docs" / "tutorials" / "many_images.md").read_text()
    program = page.partition("```python\n# segment_table.py\n")[2].partition("```")[0]
    (tmp_path / "segment_table.py").write_text(program)
    (tmp_path / "driver.py").write_text(DRIVER)
    images = [encoded((n, 0, 60 + n, 50), "JPEG") for n in range(6)]
    rows = {"id": list(range(7)), "image": [*images, b"none"]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "in.parquet", row_group_size=2)
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for number, image in enumerate(images[:2]):
            entry = tarfile.TarInfo(f"{number:04d}.jpg")
            entry.size = len(image)
            tar.addfile(entry, io.BytesIO(image))
    predictor = Predictor.from_pretrained("possam-mini")
    wanted = [predictor(Image.open(io.BytesIO(image)), "mini_b") for image in images]
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_raylet_start_wait_time_s": "600"}
    subprocess.run([sys.executable, "driver.py"], cwd=tmp_path, env={**os.environ, **settings}, check=True)
    for source, count in (("in.parquet", 7), ("in.tar", 2)):
        found = parquet.read_table(tmp_path / f"{source}.out").to_pylist()
        assert len(found) == count
        for row in found:
            number = row["id"] if "id" in row else int(row["__key__"])
            if number == 6:
                assert row["rles"] == [] and "no image" in row["error"]
                continue
            assert row["error"] == "" and row["names"] == wanted[number].labels and "image" not in row
            assert row["scores"] == [info["score"] for info in wanted[number].segments_info]
