import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_erosion

from possam.d2.data import transforms as T
from possam.data import SegmentationMapper, build_augmentations, load_panoptic, sample_key, write_id_map
from possam.data.mapper import transform_index
from possam.vocabulary import Vocabulary
from tests.reference.classic_mapper import classic_sample


@pytest.fixture
def records(dataset, vocabulary):
    return load_panoptic(**dataset["paths"], vocabulary=vocabulary)


@pytest.fixture
def mapper(vocabulary):
    def build(augmentations=(), **keywords):
        return SegmentationMapper(
            augmentations=augmentations, **{"is_train": True, "vocabulary": vocabulary, **keywords}
        )

    return build


def test_training_sample(dataset, records, mapper, vocabulary):
    sample = mapper()(records[0])
    image = np.asarray(Image.open(records[0]["file_name"]))
    assert sample["image"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), image)
    assert (sample["height"], sample["width"], sample["image_id"]) == (16, 24, 1)
    assert sample["vocabulary"] is vocabulary
    targets = sample["instances"]
    assert targets.image_size == (16, 24)
    assert targets.gt_classes.tolist() == [1, 0, 2]
    assert targets.gt_masks.tensor.dtype == torch.bool
    for mask, segment_id in zip(targets.gt_masks.tensor, (3, 70_000, 16_777_215), strict=True):
        np.testing.assert_array_equal(mask.numpy(), dataset["ids"] == segment_id)


@pytest.mark.parametrize(
    "steps",
    [
        [T.HFlipTransform(24)],
        [T.VFlipTransform(16)],
        [T.HFlipTransform(24), T.VFlipTransform(16), T.CropTransform(3, 2, 7, 9)],
        [T.CropTransform(3, 2, 1, 9), T.HFlipTransform(1)],
        [T.HFlipTransform(24), T.HFlipTransform(24)],
    ],
)
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # VFlipTransform wraps what Pillow gave
def test_views_in_any_order_are_copied(records, mapper, steps):
    """Flips and crops give views; image and masks show what the views show."""
    sample = mapper(steps)(records[0])
    image = T.TransformList(steps).apply_image(np.array(Image.open(records[0]["file_name"])))
    assert sample["image"].is_contiguous()
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), image)
    whole = mapper()(records[0])["instances"].gt_masks.tensor
    moved = [T.TransformList(steps).apply_segmentation(mask.numpy()) for mask in whole]
    kept = sample["instances"].gt_masks
    assert kept.index.is_contiguous()
    np.testing.assert_array_equal(kept.tensor.numpy(), [mask for mask in moved if mask.any()])


def test_only_crowds_give_empty_targets(records, mapper):
    targets = mapper(build_augmentations(image_size=32, is_train=True))(records[1])["instances"]
    assert targets.gt_classes.shape == (0,) and targets.gt_classes.dtype == torch.int64
    masks = targets.gt_masks.tensor
    assert masks.shape == (0, *targets.image_size) and masks.dtype == torch.bool


def test_no_segments_give_empty_targets(records, mapper):
    write_id_map(records[1]["pan_seg_file_name"], np.zeros((16, 24), np.int64))
    targets = mapper()({**records[1], "segments_info": []})["instances"]
    assert targets.gt_masks.tensor.shape == (0, 16, 24)


def test_vanished_segments_are_dropped(dataset, records, mapper):
    targets = mapper([T.CropTransform(0, 0, 15, 16, 24, 16)])(records[0])["instances"]
    assert targets.gt_classes.tolist() == [1, 0, 2]
    targets = mapper([T.CropTransform(0, 0, 12, 16, 24, 16)])(records[0])["instances"]
    assert targets.gt_classes.tolist() == [1]
    np.testing.assert_array_equal(targets.gt_masks.tensor[0].numpy(), dataset["ids"][:, :12] == 3)


def test_test_time_sample_has_no_targets(records, mapper):
    sample = mapper(build_augmentations(image_size=48, is_train=False), is_train=False)(records[0])
    assert sample["image"].shape == (3, 32, 48)
    assert (sample["height"], sample["width"]) == (16, 24)
    assert "instances" not in sample


@pytest.mark.parametrize("segments", [3, 200, 300, 70_000])
def test_index_maps_are_resized_exactly(segments):
    """Any number of segments, against the pixels that PIL samples of the coordinates themselves."""
    height, width = 210, 340
    rng = np.random.default_rng(segments)
    index = rng.permutation(np.arange(height * width) % (segments + 1)).reshape(height, width)
    resize = T.ResizeTransform(height, width, 133, 501)
    rows = np.asarray(
        Image.fromarray(np.arange(height, dtype=np.int32)[:, None]).resize((1, 133), Image.NEAREST)
    )
    columns = np.asarray(
        Image.fromarray(np.arange(width, dtype=np.int32)[None]).resize((501, 1), Image.NEAREST)
    )
    expected = np.pad(index[rows[:, 0]][:, columns[0]][:, ::-1], ((0, 5), (0, 7)))
    pad = T.PadTransform(0, 0, 7, 5, seg_pad_value=255)
    transforms = T.TransformList([resize, T.HFlipTransform(501), pad])
    np.testing.assert_array_equal(transform_index(index, transforms), expected)


def test_masks_stay_with_the_image(dataset, records, mapper):
    """Colors that stand for segments land where the masks land, through large-scale jitter."""
    ids = dataset["ids"]
    colors = {0: 255, 3: 0, 70_000: 80, 16_777_215: 160, 65_536: 255}
    gray = np.vectorize(colors.get)(ids).astype(np.uint8)
    Image.fromarray(np.stack([gray] * 3, -1).repeat(8, 0).repeat(8, 1)).save(records[0]["file_name"])
    write_id_map(records[0]["pan_seg_file_name"], ids.repeat(8, 0).repeat(8, 1))
    np.random.seed(0)
    record = {**records[0], "height": 128, "width": 192}
    build = mapper(build_augmentations(image_size=160, is_train=True, min_scale=0.5))
    for _ in range(8):
        sample = build(record)
        targets = sample["instances"]
        for mask, category in zip(targets.gt_masks.tensor, targets.gt_classes.tolist(), strict=True):
            inner = binary_erosion(mask.numpy(), iterations=2)  # the border is blurred
            assert inner.any() or mask.sum() < 100
            color = sample["image"][0].numpy()[inner].astype(int)
            assert np.abs(color - {1: 0, 0: 80, 2: 160}[category]).max(initial=0) < 8


def test_features_of_plain_and_mirrored_images(records, mapper):
    name = records[0]["file_name"]
    whole = mapper([])(records[0])["image"]
    cache = {
        sample_key(name, whole, flipped=False): {"clip": torch.zeros(1)},
        sample_key(name, whole, flipped=True): {"clip": torch.ones(1)},
    }
    plain, flip = (mapper([T.RandomFlip(prob=p)], feature_cache=cache)(records[0]) for p in (0.0, 1.0))
    assert plain["features"]["clip"].item() == 0
    assert flip["features"]["clip"].item() == 1
    assert torch.equal(flip["image"], plain["image"].flip(2))
    assert "features" not in mapper([], feature_cache=cache)(records[1])


def test_features_are_those_of_the_size(records, mapper):
    """The features of an image at one size are of no use at another."""
    resize = build_augmentations(image_size=30, is_train=True, mode="resize")
    resized = mapper(resize)(records[0])["image"]
    cache = {sample_key(records[0]["file_name"], resized, flipped=False): {"clip": torch.full((1,), 30.0)}}
    assert mapper(resize, feature_cache=cache)(records[0])["features"]["clip"].item() == 30
    assert "features" not in mapper([], feature_cache=cache)(records[0])
    crop = [T.CropTransform(0, 0, 8, 8)]
    assert "features" not in mapper(crop, feature_cache=cache)(records[0])


def test_exif_orientation(records, mapper):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270° to view
    path = records[0]["file_name"]
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    sample = mapper(is_train=False)(records[0])
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), np.asarray(upright))


def test_damaged_files_are_named(records, mapper):
    build = mapper()
    with pytest.raises(ValueError, match=r"1.png is 24×16 .* the JSON says 24×17"):
        build({**records[0], "height": 17})
    with pytest.raises(ValueError, match=r"p1.png: segment ids \[16777215\] are in the PNG"):
        build(
            {**records[0], "segments_info": [s for s in records[0]["segments_info"] if s["id"] < 2**24 - 1]}
        )
    with pytest.raises(ValueError, match=r"p1.png: segment ids \[99\] are in the JSON"):
        build({**records[0], "segments_info": [*records[0]["segments_info"], {"id": 99, "iscrowd": False}]})
    write_id_map(records[0]["pan_seg_file_name"], np.zeros((8, 8), np.int64))
    with pytest.raises(ValueError, match=r"p1.png is 8×8 .*/1.png is 24×16"):
        build(records[0])
    with open(records[0]["file_name"], "wb") as file:
        file.write(b"not an image")
    with pytest.raises(ValueError, match=r"image .*1.png does not decode"):
        build(records[0])
    with pytest.raises(FileNotFoundError, match="none.png does not exist"):
        build({**records[0], "file_name": "none.png"})


def test_coco_sample(coco_sample):
    vocabulary = Vocabulary.load("coco_panoptic")
    records = load_panoptic(
        image_root=coco_sample / "input_images",
        panoptic_root=coco_sample / "panoptic_examples",
        panoptic_json=coco_sample / "panoptic_examples.json",
        vocabulary=vocabulary,
    )
    mapper = SegmentationMapper(augmentations=[], is_train=True, vocabulary=vocabulary)
    for record in records:
        targets = mapper(record)["instances"]
        areas = [s["area"] for s in record["segments_info"] if not s["iscrowd"]]
        assert targets.gt_masks.tensor.sum((1, 2)).tolist() == areas


@pytest.fixture
def labeled(dataset, records, tmp_path):
    """The first image as a record of a semantic dataset, with as many classes as colors: 24×16 (width×height)."""
    labels = np.where(dataset["ids"] == 3, 1, 846)
    labels[dataset["ids"] == 0] = 65535
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "labels.tif")
    record = {key: records[0][key] for key in ("file_name", "image_id", "height", "width")}
    return {**record, "sem_seg_file_name": str(tmp_path / "labels.tif")}, labels


def test_one_target_a_class_of_a_label_map(labeled, mapper):
    record, labels = labeled
    words = Vocabulary.from_names([f"word {n}" for n in range(847)])
    build = mapper([T.HFlipTransform(24)], vocabulary=words, ignore_label=65535)
    targets = build(record)["instances"]
    assert targets.gt_classes.tolist() == [1, 846]
    for mask, category in zip(targets.gt_masks.tensor, (1, 846), strict=True):
        np.testing.assert_array_equal(mask.numpy(), (labels == category)[:, ::-1])
    cropped = mapper([T.CropTransform(0, 0, 10, 16, 24, 16)], vocabulary=words, ignore_label=65535)(record)
    assert cropped["instances"].gt_classes.tolist() == [1]
    assert "instances" not in mapper(is_train=False, vocabulary=words)(record)


def test_label_maps_of_other_classes_are_refused(labeled, mapper):
    with pytest.raises(ValueError, match=r"labels.tif has the values \[846, 65535\]"):
        mapper()(labeled[0])


def test_a_label_map_of_nothing_gives_no_targets(labeled, mapper):
    record, labels = labeled
    Image.new("L", (24, 16), 255).save(record["sem_seg_file_name"])
    targets = mapper()(record)["instances"]
    assert targets.gt_classes.shape == (0,) and targets.gt_masks.tensor.shape == (0, 16, 24)


def test_instances_may_overlap(records, mapper):
    left = [0.0, 0.0, 14.0, 0.0, 14.0, 16.0, 0.0, 16.0]
    right = [10.0, 0.0, 24.0, 0.0, 24.0, 16.0, 10.0, 16.0]
    annotations = [
        {"category_id": 2, "iscrowd": 0, "area": 224, "segmentation": [left]},
        {"category_id": 0, "iscrowd": 0, "area": 224, "segmentation": [right]},
        {"category_id": 0, "iscrowd": 1, "area": 384, "segmentation": [left, right]},
    ]
    record = {key: records[0][key] for key in ("file_name", "image_id", "height", "width")}
    record["annotations"] = annotations
    # What pads the image belongs to no instance.
    pad = T.PadTransform(0, 0, 6, 0, 24, 16, seg_pad_value=255)
    targets = mapper([T.HFlipTransform(24), pad])(record)["instances"]
    assert targets.gt_classes.tolist() == [2, 0]
    assert targets.gt_masks.dtype == torch.bool and targets.gt_masks.shape == (2, 16, 30)
    columns = targets.gt_masks.all(1).int().tolist()
    assert columns == [[0] * 10 + [1] * 14 + [0] * 6, [1] * 14 + [0] * 16]
    cropped = mapper([T.CropTransform(0, 0, 10, 16, 24, 16)])(record)["instances"]
    assert cropped.gt_classes.tolist() == [2]
    empty = mapper([T.HFlipTransform(24), pad])({**record, "annotations": []})["instances"]
    assert empty.gt_classes.shape == (0,) and empty.gt_masks.shape == (0, 16, 30)


def test_a_panoptic_annotation_comes_first(dataset, records, mapper):
    record = {**records[0], "sem_seg_file_name": "none.png", "annotations": []}
    assert mapper()(record)["instances"].gt_classes.tolist() == [1, 0, 2]


def test_the_classic_mapper_gives_the_same_targets(dataset, records, mapper):
    """Through large-scale jitter: the same masks, classes and pixels, but for targets of which nothing is left."""
    write_id_map(records[0]["pan_seg_file_name"], dataset["ids"].repeat(8, 0).repeat(8, 1))
    picture = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    Image.fromarray(picture).save(records[0]["file_name"])
    record = {**records[0], "height": 128, "width": 192}
    build = mapper(build_augmentations(image_size=160, is_train=True))
    dropped = 0
    for seed in range(20):
        np.random.seed(seed)
        ours = build(record)
        np.random.seed(seed)
        theirs = classic_sample(record, size=160, pad=False)
        left = theirs["gt_masks"].any(2).any(1)
        dropped += int((~left).sum())
        assert torch.equal(ours["instances"].gt_masks.tensor, theirs["gt_masks"][left])
        assert torch.equal(ours["instances"].gt_classes, theirs["gt_classes"][left])
        assert (ours["image"].int() - theirs["image"].int()).abs().max() <= 2
    assert dropped
