import pytest
import torch

from possam.necks import LastLevelPool


def maps(channels, height=96, width=64):
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(2, c, -(-height // s), -(-width // s), generator=generator) for s, c in channels.items()}


def test_all_strides_are_passed_on_as_they_are():
    channels = {4: 3, 8: 5, 16: 6, 32: 7}
    neck = LastLevelPool(in_channels=channels)
    given = maps(channels)
    found = neck(given)
    assert neck.in_strides == (4, 8, 16, 32) and neck.out_channels == channels and list(found) == [4, 8, 16, 32]
    assert all(found[stride] is given[stride] for stride in channels)
    assert list(neck.parameters()) == []


def test_coarser_strides_are_pooled_from_the_last_map_again_and_again():
    neck = LastLevelPool(in_channels={2: 4, 4: 3, 8: 5})
    given = maps({2: 4, 4: 3, 8: 5}, height=72)  # 9 rows at stride 8
    found = neck(given)
    assert neck.in_strides == (4, 8) and neck.out_channels == {4: 3, 8: 5, 16: 5, 32: 5}
    assert {stride: tuple(x.shape) for stride, x in found.items()} == {
        4: (2, 3, 18, 16), 8: (2, 5, 9, 8), 16: (2, 5, 5, 4), 32: (2, 5, 3, 2)
    }  # fmt: skip
    for fine, coarse in ((8, 16), (16, 32)):
        for row in range(found[coarse].shape[2]):
            block = found[fine][:, :, 2 * row : 2 * row + 2, 2:4]  # the last of an odd number of rows stands alone
            assert torch.equal(found[coarse][:, :, row, 1], block.amax(dim=(2, 3)))


def test_a_last_map_that_does_not_go_out_is_read_for_pooling():
    neck = LastLevelPool(in_channels={4: 3, 8: 5}, out_strides=(4, 16))
    given = maps({4: 3, 8: 5})
    assert neck.in_strides == (4, 8) and list(neck(given)) == [4, 16] and neck(given)[16].shape == (2, 5, 6, 4)


@pytest.mark.parametrize(
    ("channels", "missing"), [({8: 5, 16: 6}, r"\[8, 16\]: \[4\]"), ({16: 9}, r"\[16\]: \[4, 8\]")]
)
def test_finer_strides_than_those_of_the_backbone_are_refused(channels, missing):
    with pytest.raises(ValueError, match=rf"the backbone has {missing} cannot be made by pooling"):
        LastLevelPool(in_channels=channels)
