import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from possam.d2.data import transforms as T
from possam.data.augmentations import ResizeLongestSide, ResizeShortestSide, build_augmentations, whole_image


def run(augmentations, height=20, width=30):
    aug_input = T.AugInput(np.zeros((height, width, 3), np.uint8))
    transforms = T.AugmentationList(augmentations)(aug_input)
    return aug_input.image.shape[:2], transforms


@pytest.mark.parametrize(
    ("size", "expected"), [((20, 30), (27, 40)), ((90, 60), (40, 27)), ((1, 500), (1, 40))]
)
def test_longest_side_up_and_down(size, expected):
    assert run([ResizeLongestSide(40)], *size)[0] == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [  # of Detectron2's ResizeShortestEdge(800, 1333)
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),
        ((375, 1242), (402, 1333)),
        ((1242, 375), (1333, 402)),
        ((2848, 4288), (800, 1204)),
        ((512, 512), (800, 800)),
        ((3, 5000), (1, 1333)),
        ((1, 9000), (1, 1333)),
    ],
)
def test_shortest_side_and_most_of_the_longer_one(size, expected):
    resize = ResizeShortestSide(800, 1333).get_transform(np.empty((*size, 3), np.uint8))
    assert (resize.new_h, resize.new_w) == expected


def test_shortest_side_is_detectron2s_by_the_byte():
    theirs = pytest.importorskip("detectron2.data.transforms").ResizeShortestEdge
    rng = np.random.default_rng(0)
    for _ in range(14):
        image = rng.integers(0, 256, (*rng.integers(5, 90, 2), 3)).astype(np.uint8)
        expected = theirs(40, 66).get_transform(image).apply_image(image)
        assert np.array_equal(ResizeShortestSide(40, 66).get_transform(image).apply_image(image), expected)


def test_test_time_resize_by_the_shorter_side_leaves_training_alone():
    arguments = {"image_size": 30, "mode": "resize", "shortest_edge": (10, 12)}
    assert run(build_augmentations(is_train=False, **arguments), 20, 30)[0] == (8, 12)
    assert run(build_augmentations(is_train=True, **arguments), 20, 30)[0] == (20, 30)


def test_modes():
    sizes = {run(build_augmentations(image_size=64, is_train=True, mode="lsj"))[0] for _ in range(40)}
    assert max(sizes) == (64, 64), "a large one is cropped"
    assert min(sizes) < (30, 45), "a small one is left to the model to pad"
    flips = {
        whole_image(run(build_augmentations(image_size=30, is_train=True, mode="flip"))[1]) for _ in range(40)
    }
    assert flips == {False, True}
    for mode in ("lsj", "flip", "resize"):
        size, transforms = run(build_augmentations(image_size=30, is_train=False, mode=mode))
        assert (size, whole_image(transforms)) == ((20, 30), False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "ljs"}, r"unknown augmentation mode 'ljs'; .*'lsj', 'flip', 'resize'.*Did you mean 'lsj'"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"min_scale": 2.0, "max_scale": 1.0}, "min_scale <= max_scale"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_augmentations(**{"image_size": 64, "is_train": True, **arguments})


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([], False),
        ([T.NoOpTransform()], False),
        ([T.HFlipTransform(30)], True),
        ([T.HFlipTransform(30), T.TransformList([T.HFlipTransform(30)])], False),
        ([T.ResizeTransform(20, 30, 20, 30), T.HFlipTransform(30)], True),
        ([T.ResizeTransform(20, 30, 40, 60)], False),
        ([T.ResizeTransform(20, 30, 40, 60), T.HFlipTransform(60)], True),
        ([T.ResizeTransform(20, 30, 10, 15), T.ResizeTransform(10, 15, 20, 30)], None),
        ([T.CropTransform(0, 0, 30, 20, 30, 20), T.PadTransform(0, 0, 0, 0)], False),
        ([T.CropTransform(0, 0, 29, 20, 30, 20)], None),
        ([T.CropTransform(0, 0, 30, 20)], None),
        ([T.PadTransform(0, 0, 1, 0)], None),
        ([T.VFlipTransform(20)], None),
    ],
)
def test_whole_image(transforms, expected):
    assert whole_image(T.TransformList(transforms)) is expected


@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (37, 211), (300, 200)])
def test_large_scale_jitter_is_a_resize_and_a_crop(height, width):
    """Detectron2's two policies, one after the other, with the same draws."""
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.integers(0, 256, (height, width, 3)), (1, 1, 0)).astype(np.uint8)
    segments = rng.integers(0, 255, (height, width)).astype(np.uint8)
    ours = build_augmentations(image_size=160, is_train=True, mode="lsj")
    theirs = [T.ResizeScale(0.1, 2.0, 160, 160), T.FixedSizeCrop((160, 160), pad=False), T.RandomFlip()]
    largest, unequal = 0, []
    for seed in range(25):
        results = []
        for augmentations in (ours, theirs):
            np.random.seed(seed)
            given = T.AugInput(image)
            transforms = T.AugmentationList(augmentations)(given)
            corners = transforms.apply_coords(np.array([[0.0, 0.0], [width, height]]))
            results.append((given.image, transforms.apply_segmentation(segments), corners))
        (pixels, kept, corners), (pixels_there, kept_there, corners_there) = results
        np.testing.assert_array_equal(kept, kept_there)
        np.testing.assert_allclose(corners, corners_there)
        assert pixels.shape == pixels_there.shape and pixels.dtype == np.uint8
        difference = np.abs(pixels.astype(int) - pixels_there)
        largest = max(largest, difference.max())
        unequal.append((difference > 0).mean())
    assert largest <= 2 and np.mean(unequal) < 0.01
