"""What holds for every preparation: nothing twice, on after a stop, the same in several processes, plain errors."""

import shutil

import pytest

from possam.data.preparation import PREPARATIONS
from tests.data.preparation.conftest import LAYOUT_OF

NAMES = list(LAYOUT_OF)
# The official file that is damaged, and the folder that is taken away.
VICTIMS = {
    "coco_stuff": "coco/stuffthingmaps/val2017/*.png",
    "ade20k_semantic": "ADEChallengeData2016/annotations/validation/*.png",
    "ade20k_panoptic": "ADEChallengeData2016/annotations/validation/*.png",
    "ade20k_instance": "ADEChallengeData2016/annotations_instance/validation/*.png",
    "ade20k": "ADEChallengeData2016/annotations_instance/validation/*.png",
    "ade20k_full": "ADE20K_2021_17_01/images/ADE/validation/*/*/*_seg.png",
    "pascal_context_59": "VOCdevkit/VOC2010/trainval/2008_0005*.mat",
    "pascal_context_459": "VOCdevkit/VOC2010/trainval/2008_0005*.mat",
    "pascal_voc": "VOCdevkit/VOC2012/SegmentationClass/2007_0005*.png",
    "cityscapes": "cityscapes/gtFine/val/*/*_instanceIds.png",
}


def files_of(root):
    return {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}


def ages_of(root):
    return {name: path.stat().st_mtime_ns for name, path in files_of(root).items()}


def contents_of(root):
    return {name: path.read_bytes() for name, path in files_of(root).items()}


def test_every_name_of_the_contract_is_there():
    assert set(PREPARATIONS) == {*NAMES, "mini"}
    assert all(name == preparation.name and preparation.description for name, preparation in PREPARATIONS.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_changes_nothing_and_says_so(name, fresh):
    root = fresh(name)
    official = contents_of(root)
    calls = []
    first = PREPARATIONS[name].run(root, progress=lambda *done: calls.append(done))
    made = len(files_of(root)) - len(official)
    assert (first.written, first.kept) == (made, 0) and made > 0
    total = calls[-1][1]
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert {name: bytes_ for name, bytes_ in contents_of(root).items() if name in official} == official
    before = ages_of(root)
    second = PREPARATIONS[name].run(root)
    assert (second.written, second.kept) == (0, made)
    assert str(second).startswith("nothing to do")
    assert ages_of(root) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on_where_it_ended(name, fresh):
    whole, stopped = fresh(name, "whole"), fresh(name, "stopped")
    PREPARATIONS[name].run(whole)

    def stop(done, total):
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PREPARATIONS[name].run(stopped, progress=stop)
    before = ages_of(stopped)
    report = PREPARATIONS[name].run(stopped)
    assert report.written > 0
    # Files of the first run stayed; only the notes of an unfinished JSON are gone.
    after = ages_of(stopped)
    assert {file: age for file, age in before.items() if file.suffix != ".unfinished"}.items() <= after.items()
    assert contents_of(stopped) == contents_of(whole)


@pytest.mark.parametrize("name", NAMES)
def test_one_split_alone(name, fresh):
    root, whole = fresh(name, "val"), fresh(name, "whole")
    PREPARATIONS[name].run(root, splits=["val"])
    PREPARATIONS[name].run(whole)
    assert contents_of(root).items() < contents_of(whole).items()
    with pytest.raises(ValueError, match=r"no split 'vall'; its splits are .* Did you mean 'val'"):
        PREPARATIONS[name].run(root, splits=["vall"])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_is_named_before_any_work(name, fresh):
    root = fresh(name)
    victim = next(root.glob(VICTIMS[name]))
    folder = victim.parent if "_0005" in VICTIMS[name] else root / VICTIMS[name].split("/*")[0]
    shutil.rmtree(folder)
    before = ages_of(root)
    with pytest.raises(FileNotFoundError) as error:
        PREPARATIONS[name].run(root)
    message = str(error.value)
    assert str(folder.relative_to(root)) in message and ("ownload" in message)
    alone = "_0005" not in VICTIMS[name]
    assert ("--splits train" in message) == alone
    assert ages_of(root) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named_and_the_rest_is_done(name, fresh):
    root, whole = fresh(name, "damaged"), fresh(name, "whole")
    victim = sorted(root.glob(VICTIMS[name]))[0]
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError) as error:
        PREPARATIONS[name].run(root)
    assert str(victim) in str(error.value)
    assert not list(root.rglob("*.tmp"))
    victim.write_bytes(content)
    PREPARATIONS[name].run(root)
    PREPARATIONS[name].run(whole)
    assert contents_of(root) == contents_of(whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_result_is_made_again(name, fresh):
    root = fresh(name)
    official = set(files_of(root))
    PREPARATIONS[name].run(root)
    right = contents_of(root)
    for path in set(files_of(root)) - official:
        if path.suffix != ".jpg":
            (root / path).write_bytes(right[path][:-5])
    PREPARATIONS[name].run(root)
    assert contents_of(root) == right


def test_overwrite_replaces_what_looks_whole(fresh):
    root = fresh("ade20k")
    PREPARATIONS["ade20k"].run(root)
    right = contents_of(root)
    target = root / "ADEChallengeData2016/annotations_detectron2/validation/ADE_val_00000001.png"
    shutil.copy(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", target)
    assert PREPARATIONS["ade20k"].run(root).written == 0
    report = PREPARATIONS["ade20k"].run(root, overwrite=True)
    assert report.written == 1, "what is equal is left alone"
    assert contents_of(root) == right


def test_several_processes_make_the_same_files(fresh):
    alone, together = fresh("cityscapes", "alone"), fresh("cityscapes", "together")
    PREPARATIONS["cityscapes"].run(alone)
    PREPARATIONS["cityscapes"].run(together, processes=2)
    assert contents_of(alone) == contents_of(together)
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        PREPARATIONS["cityscapes"].run(together, processes=0)
