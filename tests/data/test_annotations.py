import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_coder

from possam.data import load_panoptic, read_instances, read_label_map, read_segments, write_id_map

LABELS = np.array([[0, 1, 2], [2, 9, 9]])


@pytest.fixture
def record(dataset, vocabulary):
    """The first record of `dataset`: grass, a disc, a star and a crowd of discs, 24×16 (width×height)."""
    return load_panoptic(**dataset["paths"], vocabulary=vocabulary)[0]


@pytest.fixture
def labeled(tmp_path):
    """Writes a picture as the label map of a record of 3×2 (width×height)."""

    def write(picture, suffix="png"):
        path = tmp_path / f"labels.{suffix}"
        picture.save(path)
        return {"file_name": "a.jpg", "height": 2, "width": 3, "sem_seg_file_name": str(path)}

    return write


def instance(segmentation, **more):
    return {"category_id": 1, "iscrowd": 0, "area": 7.5, "segmentation": segmentation, **more}


def annotated(*annotations):
    return {"file_name": "a.jpg", "image_id": 4, "height": 6, "width": 8, "annotations": list(annotations)}


# ---------------------------------------------------------------- segments


def test_segments(dataset, record):
    index, segments = read_segments(record)
    assert index.dtype == np.int64 and segments is record["segments_info"]
    for place, segment in enumerate(segments, start=1):
        np.testing.assert_array_equal(index == place, dataset["ids"] == segment["id"])
    np.testing.assert_array_equal(index == 0, dataset["ids"] == 0)


def test_segments_that_do_not_fit(record):
    with pytest.raises(ValueError, match=r"p1.png: segment ids \[3\] are in the PNG"):
        read_segments({**record, "segments_info": record["segments_info"][1:]})
    write_id_map(record["pan_seg_file_name"], np.zeros((8, 8), np.int64))
    with pytest.raises(ValueError, match=r"p1.png is 8×8 .*/1.png is 24×16"):
        read_segments(record)
    with pytest.raises(ValueError, match=r"image a.jpg has no panoptic annotation"):
        read_segments({"file_name": "a.jpg"})


# ---------------------------------------------------------------- label maps


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(LABELS.astype(np.uint8)),
        Image.fromarray(LABELS.astype(np.uint16)),
        Image.fromarray(LABELS.astype(np.int32)),
    ],
    ids=["8 bits", "16 bits", "32 bits"],
)
def test_label_maps_of_every_width(labeled, picture):
    labels = read_label_map(labeled(picture, "tif"), ignore_label=9, num_classes=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [[0, 1, 2], [2, -1, -1]]


def test_a_palette_picture_holds_indices(labeled):
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette([200, 100, 50] * 256)
    assert read_label_map(labeled(picture), ignore_label=9, num_classes=3)[0].tolist() == [0, 1, 2]


def test_sixteen_bits_are_read_whole(labeled):
    values = np.array([[0, 300, 846], [65535, 255, 256]], dtype=np.uint16)
    labels = read_label_map(labeled(Image.fromarray(values), "tif"), ignore_label=65535, num_classes=847)
    assert labels.tolist() == [[0, 300, 846], [-1, 255, 256]]


def test_the_ignore_label_may_be_the_number_of_classes_or_a_class(labeled):
    record = labeled(Image.fromarray(LABELS.astype(np.uint8)))
    assert read_label_map(record, ignore_label=9, num_classes=9).max() == 2
    assert read_label_map(record, ignore_label=0, num_classes=10)[0].tolist() == [-1, 1, 2]


def test_label_maps_of_another_script_are_refused(labeled):
    """ADE20K's own annotations hold 1 … 150 and 0 for other."""
    record = labeled(Image.fromarray(np.array([[0, 1, 150], [255, 3, 4]], dtype=np.uint8)))
    message = r"labels.png has the values \[150\], which are neither classes \(0 … 149\) nor the ignore label 255"
    with pytest.raises(ValueError, match=rf"{message}.*possam data prepare ade20k_semantic"):
        read_label_map(record, ignore_label=255, num_classes=150)
    record = labeled(Image.fromarray(np.array([[0, 65535, 1], [0, 0, 0]], dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"has the values \[65535\], .* ignore label 255"):
        read_label_map(record, ignore_label=255, num_classes=150)


def test_pictures_that_are_no_label_map(labeled):
    with pytest.raises(ValueError, match=r"labels.png has mode RGB, but one channel of integers"):
        read_label_map(labeled(Image.new("RGB", (3, 2))), ignore_label=255, num_classes=3)
    with pytest.raises(ValueError, match=r"labels.tif has mode F, but one channel of integers"):
        read_label_map(labeled(Image.new("F", (3, 2)), "tif"), ignore_label=255, num_classes=3)
    with pytest.raises(ValueError, match=r"labels.png has 8 bits a pixel, but 16 are expected"):
        read_label_map(labeled(Image.new("L", (3, 2))), ignore_label=65535, num_classes=3)
    with pytest.raises(ValueError, match=r"labels.png is 2×3 .*a.jpg is 3×2"):
        read_label_map(labeled(Image.new("L", (2, 3))), ignore_label=255, num_classes=3)
    record = labeled(Image.new("L", (3, 2)))
    with open(record["sem_seg_file_name"], "wb") as file:
        file.write(b"not an image")
    with pytest.raises(ValueError, match=r"label map .*labels.png does not decode"):
        read_label_map(record, ignore_label=255, num_classes=3)
    with pytest.raises(FileNotFoundError, match=r"label map none.png does not exist"):
        read_label_map({**record, "sem_seg_file_name": "none.png"}, ignore_label=255, num_classes=3)
    with pytest.raises(ValueError, match=r"image a.jpg has no semantic or panoptic annotation"):
        read_label_map(annotated(), ignore_label=255, num_classes=3)


def test_the_classes_of_a_panoptic_png(dataset, record):
    """Crowds have their class, as in the label maps that the field derives from COCO's panoptic PNGs."""
    labels = read_label_map(record, ignore_label=255, num_classes=3)
    expected = np.select([dataset["ids"] == i for i in (3, 70_000, 16_777_215, 65_536)], [1, 0, 2, 0], -1)
    np.testing.assert_array_equal(labels, expected)


def test_a_label_map_comes_before_the_panoptic_png(record, tmp_path):
    Image.new("L", (24, 16), 2).save(tmp_path / "labels.png")
    record = {**record, "sem_seg_file_name": str(tmp_path / "labels.png")}
    assert (read_label_map(record, ignore_label=255, num_classes=3) == 2).all()


# ---------------------------------------------------------------- instances


def test_instances_of_a_panoptic_png(dataset, record):
    instances = read_instances(record, isthing=(True, False, True))
    assert [one["category_id"] for one in instances] == [0, 2, 0]
    assert [one["iscrowd"] for one in instances] == [0, 0, 1]
    assert [one["area"] for one in instances] == [52, 4, 24]
    for one, segment_id in zip(instances, (70_000, 16_777_215, 65_536), strict=True):
        np.testing.assert_array_equal(mask_coder.decode(one["segmentation"]) == 1, dataset["ids"] == segment_id)


def test_instances_of_annotations():
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:4, 2:5] = 1
    square = [2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]
    dot = [7.0, 5.0, 8.0, 5.0, 8.0, 6.0, 7.0, 6.0]
    runs = mask_coder.encode(np.asfortranarray(mask))
    plain = {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 20]}
    instances = read_instances(
        annotated(
            instance([square]),
            instance([square, dot], category_id=2),
            instance(plain, iscrowd=1),
            instance(runs),
            instance({**runs, "counts": runs["counts"].decode()}),
        ),
        isthing=(False, True, True),
    )
    assert [(one["category_id"], one["iscrowd"], one["area"]) for one in instances] == [
        (1, 0, 7.5), (2, 0, 7.5), (1, 1, 7.5), (1, 0, 7.5), (1, 0, 7.5),
    ]  # fmt: skip
    masks = [mask_coder.decode(one["segmentation"]) for one in instances]
    for i in (0, 2, 3, 4):
        np.testing.assert_array_equal(masks[i], mask)
    assert masks[1].sum() == 10 and masks[1][5, 7] == 1


def test_polygons_of_fewer_than_three_points_cover_nothing():
    """Four numbers are two points, not a box, whatever pycocotools makes of them."""
    triangle = [1.0, 1.0, 6.0, 1.0, 6.0, 5.0]
    (one,) = read_instances(annotated(instance([[0.0, 0.0, 8.0, 6.0], triangle])), isthing=(True, True))
    (other,) = read_instances(annotated(instance([triangle])), isthing=(True, True))
    assert one["segmentation"] == other["segmentation"] and mask_coder.area(one["segmentation"]) > 0
    with pytest.raises(ValueError, match=r"image 4 \(a.jpg\) has no mask: none of its polygons has three corners"):
        read_instances(annotated(instance([[1.0, 1.0, 4.0, 4.0]])), isthing=(True, True))


def test_annotations_come_before_the_panoptic_png(record):
    assert read_instances({**record, "annotations": []}, isthing=(True, False, True)) == []


def test_instances_that_do_not_fit():
    runs = {"size": [8, 6], "counts": [48]}
    with pytest.raises(ValueError, match=r"mask of image 4 \(a.jpg\) is 6×8 .*image is 8×6"):
        read_instances(annotated(instance(runs)), isthing=(True, True))
    with pytest.raises(ValueError, match=r"image a.jpg has no instance or panoptic annotation"):
        read_instances({"file_name": "a.jpg"}, isthing=(True,))
