"""Faults of pictures."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from possam.data.datasets import find_spec
from possam.data.doctor import examine
from tests.data.doctor.planting import (
    IMAGE,
    LABEL_MAP,
    PANOPTIC,
    PNG,
    change_json,
    cut,
    paint,
    problems_of,
    resize,
    save,
    the_problem,
)


def erase_segment(path, segment):
    pixels = np.array(Image.open(path))
    ids = pixels.astype(int) @ [1, 256, 65536]
    pixels[ids == segment] = 0
    save(path, pixels)


FILE_FAULTS = {
    "no image": (IMAGE, lambda p: p.unlink(), "missing", "are missing (1 of 2): 000000000201.jpg", "val2017.zip"),
    "no PNG": (PNG, lambda p: p.unlink(), "missing", "panoptic PNGs of the JSON are missing (1 of 2)", "unzip"),
    "cut image": (IMAGE, cut, "decoding", "images do not decode: 000000000201.jpg: ", "val2017.zip"),
    "cut PNG": (PNG, cut, "decoding", "panoptic PNGs do not decode", "unzip"),
    "empty image": (IMAGE, lambda p: p.write_bytes(b""), "decoding", "the file is empty", "val2017.zip"),
    "no picture": (IMAGE, lambda p: p.write_text("<html>"), "decoding", "it is no picture", "val2017.zip"),
    "broken link": (
        IMAGE,
        lambda p: (p.unlink(), p.symlink_to("elsewhere.jpg")),
        "decoding",
        "000000000201.jpg: it is a link to elsewhere.jpg, which is not there",
        "val2017.zip",
    ),
    "small PNG": (
        PNG,
        lambda p: resize(p, (16, 12)),
        "sizes",
        "000000000201.png: image 32×24, panoptic PNG 16×12, JSON 32×24",
        "unzip",
    ),
    "large image": (IMAGE, lambda p: resize(p, (64, 48)), "sizes", "image 64×48, panoptic PNG 32×24", "Download"),
    "gray PNG": (
        PNG,
        lambda p: save(p, np.zeros((24, 32), np.uint8)),
        "mode",
        "must be RGB (id = R + 256·G + 256²·B): 000000000201.png: one channel of uint8",
        "unzip",
    ),
    "16-bit image": (
        IMAGE,
        lambda p: save(p, np.zeros((24, 32), np.uint16), format="PNG"),
        "mode",
        "000000000201.jpg: mode I;16",
        "val2017.zip",
    ),
    "unlisted id": (PNG, lambda p: paint(p, (9, 1, 0)), "segment ids", "JSON does not list: 000000000201.png: 265", ""),
    "thing without a pixel": (PNG, lambda p: erase_segment(p, 457), "segment ids", "lists: 000000000201.png: 457", ""),
    "image of no entry": (
        "coco/val2017/extra.jpg",
        lambda p: save(p, np.zeros((4, 4, 3), np.uint8)),
        "strangers",
        "images without an annotation: take both from the same release, or remove these: extra.jpg",
        "",
    ),
    "PNG of no entry": (
        "coco/panoptic_val2017/extra.png",
        lambda p: save(p, np.zeros((4, 4, 3), np.uint8)),
        "strangers",
        "panoptic PNGs without an entry in the JSON",
        "",
    ),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_files(coco, fault):
    path, plant, kind, what, fix = FILE_FAULTS[fault]
    plant(coco / path)
    problem = the_problem("coco_panoptic_val", coco)
    assert problem.kind == kind
    assert what in str(problem)
    assert fix in problem.fix
    assert problem.where.startswith(str((coco / path).parent))


def test_exif_orientation_counts(coco):
    with Image.open(coco / IMAGE) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(coco / IMAGE, exif=exif)
    assert "image 24×32 (turned by its EXIF orientation), panoptic PNG 32×24, JSON 32×24" in str(
        the_problem("coco_panoptic_val", coco)
    )


def test_good_label_maps(ade):
    assert problems_of("ade20k_semantic_val", ade.parent, full=True) == []


LABEL_FAULTS = {
    "value out of range": (
        lambda p: paint(p, 200),
        "values",
        "label maps hold values other than 0…149 and 255 (ignored): ADE_val_00000001.png: 200 (1 pixels)",
    ),
    "colors": (
        lambda p: save(p, np.zeros((24, 32, 3), np.uint8)),
        "mode",
        "must have one channel of uint8: ADE_val_00000001.png: a color picture (RGB)",
    ),
    "16 bits": (lambda p: save(p, np.zeros((24, 32), np.uint16)), "mode", "00000001.png: one channel of uint16"),
    "another size": (lambda p: resize(p, (16, 12)), "sizes", "ADE_val_00000001.png: image 32×24, label map 16×12"),
    "missing": (lambda p: p.unlink(), "missing", "label maps of images are missing (1 of 2): ADE_val_00000001.png"),
    "cut": (cut, "decoding", "label maps do not decode"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_label_maps(ade, fault):
    plant, kind, what = LABEL_FAULTS[fault]
    plant(ade / LABEL_MAP)
    found = [problem for problem in problems_of("ade20k_semantic_val", ade.parent) if problem.kind == kind]
    assert len(found) == 1
    assert what in str(found[0])
    assert "possam data prepare ade20k_semantic" in found[0].fix


def test_an_image_without_which_a_label_map_stands(ade):
    (ade / "images/validation/ADE_val_00000002.jpg").unlink()
    kinds = {problem.kind: str(problem) for problem in problems_of("ade20k_semantic_val", ade.parent)}
    assert "images of the annotation are missing (1 of 2): ADE_val_00000002.jpg" in kinds["missing"]
    assert "holds 1 images, 2 are expected" in kinds["count"]


def test_stuff_may_be_hidden_by_instances(coco):
    erase_segment(coco / PNG, 7)
    assert problems_of("coco_panoptic_val", coco) == []


def test_a_tree_of_another_known_size_is_well(ade):
    (ade / "images/validation/ADE_val_00000002.jpg").unlink()
    (ade / "annotations_detectron2/validation/ADE_val_00000002.png").unlink()
    spec = dataclasses.replace(find_spec("ade20k_semantic_val"), images=2, other_counts=(1,))
    assert examine(spec, ade.parent) == []


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        ({"area": 500}, "areas", "000000000201.png: segment 457: 500, found 64"),
        ({"area": 30}, "areas", "000000000201.png: segment 457: 30, found 64"),
        ({"bbox": [0, 0, 8, 8]}, "boxes", "000000000201.png: segment 457: [0, 0, 8, 8], found [8, 6, 8, 8]"),
        ({"bbox": [8, 6, 20, 8]}, "boxes", "000000000201.png: segment 457: [8, 6, 20, 8], found [8, 6, 8, 8]"),
    ],
)
def test_stated_areas_and_boxes_of_segments(coco, change, kind, what):
    def thing(content):
        (segment,) = [s for s in content["annotations"][0]["segments_info"] if s["id"] == 457]
        segment.update(change)

    change_json(coco / PANOPTIC, thing)
    problem = the_problem("coco_panoptic_val", coco)
    assert problem.kind == kind and what in str(problem) and "in the JSON are not those of" in str(problem)


def test_stuff_may_be_stated_larger_than_its_pixels_but_not_smaller(coco):
    """As in the field's ADE20K: with what instances cover."""

    def stuff(area, box):
        def change(content):
            (segment,) = [s for s in content["annotations"][0]["segments_info"] if s["id"] == 70_000]
            segment.update(area=area, bbox=box)

        return change

    change_json(coco / PANOPTIC, stuff(700, [0, 0, 32, 24]))
    assert problems_of("coco_panoptic_val", coco) == []
    change_json(coco / PANOPTIC, stuff(20, [2, 12, 4, 4]))
    assert {problem.kind for problem in problems_of("coco_panoptic_val", coco)} == {"areas", "boxes"}
