"""CLIP's embeddings of masked and cropped images, beside open_clip's own of images made by hand."""

import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import IMAGE_EMBEDDERS
from tests.encoders.tiny_clips import MEAN, frozen, normalized

SIZE = 32


@pytest.fixture(scope="module")
def clip():
    return frozen({"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": SIZE})


@pytest.fixture
def image():
    return torch.rand(3, 48, 60, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture
def mask_logits():
    """Of 64×64 padded pixels, 16×16 cells: a rectangle, one that goes beyond the image, nothing, only the padding."""
    logits = torch.full((1, 4, 16, 16), -8.0)
    logits[0, 0, 2:6, 3:9] = logits[0, 1, 8:, 10:] = logits[0, 3, 12:] = 8.0
    return logits


def test_crops_are_the_masks_boxes(clip, image, mask_logits):
    embeddings, empty = IMAGE_EMBEDDERS["cropping"](clip, [image], mask_logits)
    assert empty.tolist() == [[False, False, True, True]] and embeddings.shape == (1, 4, 16)
    for query, box in enumerate([(slice(8, 24), slice(12, 36)), (slice(32, 48), slice(40, 60))]):
        crop = F.interpolate(image[(None, slice(None), *box)], size=(SIZE, SIZE), mode="bilinear", antialias=True)
        expected = clip.model.encode_image(normalized(crop), normalize=True)
        torch.testing.assert_close(embeddings[0, query], expected[0], atol=1e-5, rtol=1e-4)


def test_outside_of_a_mask_there_is_clips_mean_color(clip, mask_logits):
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    embeddings, empty = IMAGE_EMBEDDERS["masking"](clip, [image], mask_logits)
    assert empty.tolist() == [[False, False, True, False]]
    small = F.interpolate(image[None], size=(SIZE, SIZE), mode="bilinear", antialias=True)
    hidden = 255 * torch.tensor(MEAN)[None, :, None, None].repeat(1, 1, SIZE, SIZE)
    hidden[..., 4:12, 6:18] = small[..., 4:12, 6:18]
    expected = clip.model.encode_image(normalized(hidden), normalize=True)
    torch.testing.assert_close(embeddings[0, 0], expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(IMAGE_EMBEDDERS))
def test_many_masks_go_in_chunks_and_images_do_not_mix(clip, image, name, monkeypatch):
    logits = torch.randn(2, 9, 16, 16, generator=torch.Generator().manual_seed(1))
    both, _ = IMAGE_EMBEDDERS[name](clip, [image, image.flip(-1)], logits)
    monkeypatch.setattr("possam.classifiers.clip_image_embedding._CHUNK", 2)
    second, _ = IMAGE_EMBEDDERS[name](clip, [image.flip(-1)], logits[1:])
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(2, 9))
