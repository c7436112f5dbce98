"""Frames of videos, whole, damaged and cut off."""

import re

import cv2
import numpy as np
import pytest

from possam.predict.videos import frame_rate, read_video, write_video

FRAMES = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Videos of noise, of which each frame is a key frame of its own, by their suffix."""
    folder, random = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    images = random.integers(0, 255, (FRAMES, 24, 32, 3), dtype=np.uint8)
    contents = {}
    for suffix in (".avi", ".mkv"):
        writer = cv2.VideoWriter(str(folder / f"a{suffix}"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 24))
        for image in images:
            writer.write(image)
        writer.release()
        contents[suffix] = (folder / f"a{suffix}").read_bytes()
    return contents


def read(path, **options):
    """Numbers of the frames, and the error after them, if any."""
    numbers, error = [], ""
    try:
        for number, image in read_video(path, **options):
            assert image.shape == (24, 32, 3) and image.dtype == np.uint8
            numbers.append(number)
    except ValueError as raised:
        error = str(raised)
    return numbers, error


def damage(content, frames):
    """A Motion JPEG with zeros where some frames begin."""
    starts = [match.end() for match in re.finditer(rb"00dc.{4}(?=\xff\xd8)", content, re.DOTALL)]
    assert len(starts) == FRAMES
    damaged = bytearray(content)
    for frame in frames:
        damaged[starts[frame] : starts[frame] + 600] = bytes(600)
    return bytes(damaged)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_whole_video_is_read_to_its_end(whole, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[suffix])
    assert read(path) == (list(range(FRAMES)), "")
    assert read(path, every=5) == ([0, 5, 10], "")


@pytest.mark.parametrize("frames", [[1], [0, 1, 5, 6]])
def test_damaged_frames_are_passed_over_and_named(whole, tmp_path, frames):
    path = tmp_path / "a.avi"
    path.write_bytes(damage(whole[".avi"], frames))
    numbers, error = read(path)
    assert numbers == [number for number in range(FRAMES) if number not in frames]
    assert f"a.avi is damaged: frames {frames} do not decode. The other" in error


def test_damage_at_the_end_is_an_early_end(whole, tmp_path):
    path = tmp_path / "a.avi"
    path.write_bytes(damage(whole[".avi"], [3, 10, 11]))
    numbers, error = read(path, every=2)
    assert numbers == [0, 2, 4, 6, 8]
    assert "frames [3] do not decode, and it ends after 10 of the 12 frames it states" in error


@pytest.mark.parametrize(("suffix", "stated"), [(".avi", "12 frames"), (".mkv", "2.4 seconds")])
def test_a_video_that_is_cut_off_says_so(whole, tmp_path, suffix, stated):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[suffix][: len(whole[suffix]) // 2])
    numbers, error = read(path)
    assert 0 < len(numbers) < FRAMES and numbers == list(range(len(numbers)))
    assert "it ends after" in error and f"of the {stated} it states" in error


def test_a_video_that_is_none_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"bad\.mp4 cannot be read as a video"):
        list(read_video(tmp_path / "bad.mp4"))
    with pytest.raises(FileNotFoundError, match=r"no video at .*gone\.mp4"):
        list(read_video(tmp_path / "gone.mp4"))


def test_a_video_is_written_as_it_is_read(tmp_path):
    shades = [np.full((48, 64, 3), (shade, 90, 30), np.uint8) for shade in (0, 80, 160, 240)]
    path = tmp_path / "new" / "a.mp4"
    assert write_video(path, [*shades, np.full((24, 32, 3), (255, 90, 30), np.uint8)], 5.0) == 5
    assert frame_rate(path) == pytest.approx(5)
    read_again = [image for _, image in read_video(path)]
    expected = [0, 80, 160, 240, 255]
    assert [image.shape for image in read_again] == [(48, 64, 3)] * 5
    assert [image[..., 0].mean() for image in read_again] == pytest.approx(expected, abs=8)
    assert all(abs(image[..., 1].mean() - 90) < 8 and abs(image[..., 2].mean() - 30) < 8 for image in read_again)
    assert write_video(tmp_path / "none.mp4", [], 5.0) == 0
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.mp4", "new"]


def test_a_failure_leaves_no_video(tmp_path, monkeypatch):
    def broken():
        yield np.zeros((48, 64, 3), np.uint8)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_video(tmp_path / "a.mp4", broken(), 5.0)
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda _: False)
    with pytest.raises(ValueError, match="cannot be written: OpenCV has no MPEG-4 encoder here"):
        write_video(tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8)], 5.0)
    assert not list(tmp_path.iterdir())
