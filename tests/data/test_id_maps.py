import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from possam.data.id_maps import (
    check_ids,
    check_values,
    distinct,
    id_to_rgb,
    index_ids,
    read_id_map,
    rgb_to_id,
    runs,
    write_id_map,
)


@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=20))
def test_ids_survive_color(values):
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
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match="gray.png has mode L, but RGB"):
        read_id_map(tmp_path / "gray.png")
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


def png(rows, *, pieces=1, more=b"", interlaced=0):
    """A PNG of H×(1 + 3W) bytes as they are, filters in front, its stream cut in pieces."""
    stream = zlib.compress(rows.tobytes() + more)
    cuts = np.linspace(0, len(stream), pieces + 1).astype(int)
    header = struct.pack(">IIBBBBB", rows.shape[1] // 3, rows.shape[0], 8, 2, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"tIME", bytes(7))]
    chunks += [(b"IDAT", stream[a:b]) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )


def by_pillow(content):
    with Image.open(io.BytesIO(content)) as picture:
        return rgb_to_id(np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (9, 5), (40, 33)])
def test_every_filter_is_undone(tmp_path, size, filters):
    rng = np.random.default_rng(size)
    rows = rng.integers(0, 256, (size[0], 1 + 3 * size[1]), dtype=np.uint8)
    rows[:, 0] = rng.choice(filters, size[0])
    for pieces in (1, 3):
        (tmp_path / "a.png").write_bytes(png(rows, pieces=pieces))
        ids = read_id_map(tmp_path / "a.png")
        assert ids.dtype == np.int32 and ids.flags.c_contiguous
        np.testing.assert_array_equal(ids, by_pillow(png(rows)))


def test_interlaced_rows_are_put_in_order(tmp_path):
    rows = np.arange(36, dtype=np.uint8).reshape(9, 4) * (np.arange(4) > 0).astype(np.uint8)
    content = png(rows, interlaced=1)
    (tmp_path / "a.png").write_bytes(content)
    ids = read_id_map(tmp_path / "a.png")
    np.testing.assert_array_equal(ids, by_pillow(content))
    assert (ids != by_pillow(png(rows))).any()


@pytest.mark.parametrize("filters", [0, 4])
def test_damage_is_an_error_or_does_not_show(tmp_path, filters):
    rows = np.random.default_rng(0).integers(0, 3, (6, 16), dtype=np.uint8)
    rows[:, 0] = filters
    whole, path, errors = png(rows, pieces=2), tmp_path / "damaged.png", 0
    flipped = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))]
    for content in [whole[:length] for length in range(len(whole))] + flipped:
        path.write_bytes(content)
        try:
            ids = read_id_map(path)
        except ValueError as error:
            assert "damaged.png" in str(error)
            errors += 1
        else:
            np.testing.assert_array_equal(ids, by_pillow(content))
    assert errors > len(whole)


def test_a_file_that_unpacks_to_more_than_its_picture_takes_no_memory(tmp_path):
    rows = np.zeros((4, 13), np.uint8)
    rows[1, 1:4] = 7, 1, 0
    (tmp_path / "bomb.png").write_bytes(png(rows, more=bytes(50_000_000)))
    tracemalloc.start()
    ids = read_id_map(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids[1, 0] == 263 and ids.sum() == 263
    assert peak < 5_000_000


@pytest.mark.parametrize("count", [1, 9_000])  # more than have slots of their own
def test_ids_are_found_however_many(count):
    ids = np.random.default_rng(0).choice(2**24 - 1, count, replace=False) + 1
    values = np.concatenate([ids[::-1], [0, -1, 2**40]])
    # Those that are equal in 32 bits, too.
    others = np.concatenate([ids + 2**32, ids - 2**32])
    assert index_ids(values, ids.tolist()).tolist() == [*range(count, 0, -1), 0, -1, -1]
    assert (index_ids(others, ids.tolist()) == -1).all()
    np.testing.assert_array_equal(check_values(ids, ids.tolist(), source="x"), np.arange(1, count + 1))


def test_an_id_that_is_listed_twice_has_no_pixel_left():
    with pytest.raises(ValueError, match=r"x: segment ids \[5\] are in the JSON's .* no pixel"):
        check_values(np.array([5, 0]), [5, 5], source="x")
