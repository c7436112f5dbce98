import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from possam.data.id_maps import check_ids, distinct, id_to_rgb, index_ids, read_id_map, rgb_to_id, runs, write_id_map


@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=20))
def test_ids_survive_colour(values):
    ids = np.array([values])
    rgb = id_to_rgb(ids)
    assert rgb.dtype == np.uint8
    assert [list(map(int, c)) for c in rgb[0]] == [[v % 256, v // 256 % 256, v // 65536] for v in values]
    np.testing.assert_array_equal(rgb_to_id(rgb), ids)


def test_write_and_read(tmp_path):
    ids = np.array([[0, 1, 255], [256, 65_536, 2**24 - 1]])
    write_id_map(tmp_path / "sub" / "a.png", ids)
    np.testing.assert_array_equal(read_id_map(tmp_path / "sub" / "a.png"), ids)
    for bad in (-1, 2**24):
        with pytest.raises(ValueError, match="segment ids must be in"):
            write_id_map(tmp_path / "b.png", np.array([[bad]]))
    assert not (tmp_path / "b.png").exists()


def test_unreadable_maps_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.png"):
        read_id_map(tmp_path / "none.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="grey.png has mode L, but RGB"):
        read_id_map(tmp_path / "grey.png")
    write_id_map(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 2**24, (64, 64)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    with pytest.raises(ValueError, match="cut.png does not decode"):
        read_id_map(tmp_path / "cut.png")


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**24 - 1), unique=True, max_size=12), st.booleans(), st.integers(0, 9))
def test_index_is_the_position(ids, small, seed):
    ids = sorted({i % 300 + 1 for i in ids}, reverse=True) if small else ids
    pixels = np.random.default_rng(seed).choice([0, *ids, 2**24 - 1, 301], size=(5, 7))
    place = {0: 0} | {v: i + 1 for i, v in enumerate(ids)}
    expected = [[place.get(v, -1) for v in row] for row in pixels.tolist()]
    np.testing.assert_array_equal(index_ids(pixels, ids), expected)


def test_check_names_the_ids_of_both_sides():
    pixels = np.array([[0, 4, 90_000]])
    np.testing.assert_array_equal(check_ids(pixels, [90_000, 4], source="x"), [[0, 2, 1]])
    with pytest.raises(ValueError, match=r"x.png: segment ids \[90000\] are in the PNG and not in the JSON"):
        check_ids(pixels, [4], source="x.png")
    with pytest.raises(
        ValueError, match=r"x.png: segment ids \[7, 8\] are in the JSON's .* no pixel in the PNG"
    ):
        check_ids(pixels, [4, 90_000, 7, 8], source="x.png")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_runs_are_where_nothing_changes(pairs):
    maps = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    starts, lengths = runs(*maps)
    for one in maps:
        np.testing.assert_array_equal(np.repeat(one[starts], lengths), one)
    changes = [i for i in range(len(pairs)) if i == 0 or pairs[i] != pairs[i - 1]]
    assert starts.tolist() == changes  # no run is cut in two
    assert distinct(maps).tolist() == sorted({value for pair in pairs for value in pair})


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (200, 301)])
def test_maps_are_plain_pngs(tmp_path, size):
    """Whatever others read PNGs with."""
    ids = np.random.default_rng(0).integers(0, 2**24, size)
    write_id_map(tmp_path / "a.png", ids)
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(picture), id_to_rgb(ids))
    Image.open(tmp_path / "a.png").convert("RGBA").save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_id_map(tmp_path / "b.png"), ids)
