"""SA-1B's layout: pictures with a JSON of masks beside each."""

import json

import pytest
from pycocotools import mask as mask_coder

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import register_from_config
from possam.data.pictures import UnreadableFile
from possam.data.prompts import PromptMapper, PromptSampler
from possam.data.unnamed import load_unnamed, read_unnamed
from possam.vocabulary import Vocabulary
from tests.layouts.unnamed import make_unnamed

SIZE = (20, 30)


@pytest.fixture
def folder(tmp_path):
    make_unnamed(tmp_path, size=SIZE, suffix=".jpg")
    return tmp_path


def edit(folder, change):
    path = folder / "sa_1.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_pictures_and_jsons_are_paired(folder):
    records = load_unnamed(image_root=folder)
    assert [record["image_id"] for record in records] == ["sa_1", "sa_2"]
    assert all((record["height"], record["width"]) == SIZE for record in records)
    instances = read_unnamed(records[1])
    assert [instance["category_id"] for instance in instances] == [-1, -1]
    masks = [mask_coder.decode(instance["segmentation"]) for instance in instances]
    assert masks[0][2:9, 3:15].all() and masks[0].sum() == 7 * 12
    assert masks[1][5:18, 20:29].all() and masks[1].sum() == 13 * 9
    assert [instance["area"] for instance in instances] == [84, 117]


def test_a_training_sample_has_no_names(folder, clean_catalogs):
    entry = {"name": "unnamed", "image_root": str(folder), "vocabulary": "mini_a"}
    assert register_from_config([entry], "UNNAMED") == ["unnamed"]
    assert MetadataCatalog.get("unnamed").vocabulary == Vocabulary.load("mini_a")
    mapper = PromptMapper(
        sampler=PromptSampler(min_area=1), augmentations=[], vocabulary=MetadataCatalog.get("unnamed").vocabulary
    )
    sample = mapper(DatasetCatalog.get("unnamed")[0])
    assert sample["instances"].gt_classes.tolist() == [-1] * 40 and len(sample["prompts"]) == 40


def test_what_lacks_its_other_half_is_named(folder):
    (folder / "sa_2.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 files under .* have no \.json beside them: \[sa_2\]"):
        load_unnamed(image_root=folder)
    (folder / "sa_2.jpg").unlink()
    (folder / "sa_1.jpg").rename(folder / "sa_3.jpg")
    (folder / "sa_3.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"have no \.jpg beside them: \[sa_1\]"):
        load_unnamed(image_root=folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_unnamed(image_root=folder / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), r"sa_1\.json: the keys \['annotations'\] are missing.*SA-1B format"),
        (lambda c: c["image"].update(height=21), r"sa_1\.json is of an image of 30×21"),
        (lambda c: c["annotations"][1].pop("bbox"), r"annotations\[1\]: the keys \['bbox'\]"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), r"annotations\[1\] needs a bbox"),
        (lambda c: c["annotations"][0].update(bbox=[20, 15, 8, 4]), r"annotations\[0\] lies in .*under half"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[30, 20]), r"run-length mask of .*annotations\[0\]"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts="abc"), "the runs of a mask"),
    ],
)
def test_damaged_jsons_are_named(folder, change, message):
    edit(folder, change)
    with pytest.raises(UnreadableFile, match=message):
        read_unnamed(load_unnamed(image_root=folder)[0])


def test_a_missing_json_is_named(folder):
    record = load_unnamed(image_root=folder)[0]
    (folder / "sa_1.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sa_1\.json does not exist"):
        read_unnamed(record)
