import cv2
import numpy as np
import pytest
from PIL import Image

from possam.frames import find_sources, read_frames


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a.jpg", "below/a.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("not a picture")
        else:
            Image.new("RGB", (8, 6), (200, 10, 10)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for level in range(0, 250, 50):
        frame = np.zeros((24, 32, 3), np.uint8)
        frame[..., 2] = level  # OpenCV's red
        writer.write(frame)
    writer.release()
    return path


def test_folders_patterns_and_files_are_found_once_each_with_a_name_of_its_own(photos):
    names = [source.name for source in find_sources([photos])]
    assert names == ["a", "b", "below/a"]
    sources = find_sources([str(photos / "*.jpg"), photos / "below" / "a.jpg", photos / "a.jpg", "none.jpg"])
    assert [source.name for source in sources] == ["a", "a-2", "none"]


def test_what_has_no_picture_is_refused(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no picture and no video in .*empty"):
        find_sources([tmp_path / "empty"])
    with pytest.raises(ValueError, match=r"no picture and no video in .*\*\.bmp"):
        find_sources([str(photos / "*.bmp")])
    with pytest.raises(ValueError, match="no image was given"):
        find_sources([])


def test_every_second_frame_of_a_video_in_rgb(video):
    (source,) = find_sources([video])
    frames = list(read_frames(source, every=2))
    assert [frame.name for frame in frames] == ["clip/000000", "clip/000002", "clip/000004"]
    for frame, level in zip(frames, (0, 100, 200), strict=True):
        assert frame.image.shape == (24, 32, 3)
        assert np.abs(frame.image.reshape(-1, 3).mean(0) - (level, 0, 0)).max() < 6


def test_a_video_that_is_none_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"bad\.mp4 cannot be read as a video"):
        list(read_frames(*find_sources([tmp_path / "bad.mp4"])))
    with pytest.raises(FileNotFoundError, match=r"no video at .*gone\.mp4"):
        list(read_frames(*find_sources([tmp_path / "gone.mp4"])))
