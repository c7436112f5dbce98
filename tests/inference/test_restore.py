import pytest
import torch
import torch.nn.functional as F

from possam.inference import restore_masks


def test_masks_are_resized_cropped_and_resized_in_this_order():
    logits = torch.randn(70, 16, 24, generator=torch.Generator().manual_seed(0))
    got = restore_masks(logits, padded_size=(64, 96), image_size=(50, 90), output_size=(123, 77))
    padded = F.interpolate(logits[None], size=(64, 96), mode="bilinear", align_corners=False)
    expected = F.interpolate(padded[..., :50, :90], size=(123, 77), mode="bilinear", align_corners=False)[0]
    assert got.shape == (70, 123, 77) and got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


def test_an_object_comes_back_where_it_was_in_the_image():
    # The upper left quarter of a 40×60 image in a 64×64 input, seen at stride 4, asked for at 80×120.
    logits = torch.full((1, 16, 16), -1.0)
    logits[0, :5, : 30 // 4] = 1.0
    got = restore_masks(logits, padded_size=(64, 64), image_size=(40, 60), output_size=(80, 120))[0] > 0
    assert got[:38, :54].all() and not got[44:].any() and not got[:, 62:].any()


def test_half_precision_is_restored_in_float32_and_sizes_may_agree():
    logits = torch.randn(3, 8, 8).half()
    got = restore_masks(logits, padded_size=(8, 8), image_size=(8, 8), output_size=(8, 8))
    assert torch.equal(got, logits.float())
    assert restore_masks(logits[:0], padded_size=(8, 8), image_size=(8, 8), output_size=(4, 4)).shape == (
        0,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("shape", "sizes", "message"),
    [
        ((8, 8), ((8, 8), (8, 8), (8, 8)), "Q×h×w"),
        ((1, 8, 8), ((8, 8), (9, 8), (8, 8)), "cannot lie in an input"),
        ((1, 8, 8), ((8, 8), (8, 8), (0, 8)), "at least 1×1"),
    ],
)
def test_impossible_sizes_are_refused(shape, sizes, message):
    padded, image, output = sizes
    with pytest.raises(ValueError, match=message):
        restore_masks(torch.zeros(shape), padded_size=padded, image_size=image, output_size=output)
