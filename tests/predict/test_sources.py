import errno
import logging
import os
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from possam.predict.sources import Source, distinct_sources, find_sources, read_frames


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


def test_addresses_are_no_patterns_and_an_empty_path_is_named(photos):
    address, other = "https://host/a/b.jpg?size=3&x=[1]", "http://host"
    first, second = find_sources([address, other])
    assert (first.name, first.place, second.name, second.place) == ("b", address, "image", other)
    (inside,) = find_sources(["HTTPS://host/small?of=https://other//a.jpg"])
    assert (inside.place, inside.name) == ("https://host/small?of=https://other//a.jpg", "small")
    (video,) = find_sources(["https://host/clip.mp4"])
    with pytest.raises(ValueError, match=r"^https://host/clip.mp4 is a video, of which no address is read; download"):
        next(read_frames(video))
    assert Source(photos / "b.png", "b").place == str(photos / "b.png")
    with pytest.raises(ValueError, match="an image's path is empty"):
        find_sources([photos, ""])


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


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "red").save(path)
    return path


def places(sources):
    """Everything that results of pictures and videos would be written to, as a file system without case has it."""
    return [f"{source.name}{'/000000' if source.is_video else ''}.png".casefold() for source in sources]


def test_results_of_a_video_and_of_a_folder_of_its_name_are_kept_apart(tmp_path, caplog):
    picture(tmp_path / "clip" / "000000.png")
    (tmp_path / "clip.mp4").write_bytes(b"video")
    video, frame = Source(tmp_path / "clip.mp4", "clip"), Source(tmp_path / "clip" / "000000.png", "clip/000000")
    for sources in (find_sources([tmp_path]), distinct_sources([video, frame]), distinct_sources([frame, video])):
        assert len(set(places(sources))) == 2
        assert distinct_sources(sources) == sources
    assert "written under other names" in caplog.text and "clip.mp4 as clip-2" in caplog.text


def test_names_that_differ_in_suffix_case_or_accents_only_are_kept_apart(tmp_path):
    names = ["a.jpg", "a.png", "A.png", "x.png", "x.jpg/y.png", "caf\u00e9.png", "cafe\u0301.png"]
    for name in names:
        picture(tmp_path / name)
    sources = find_sources([tmp_path])
    assert len(sources) == len(names) == len(set(places(sources)))
    folders = {parent for place in places(sources) for parent in (place.rpartition("/")[0],)}
    assert not folders & {f"{source.name}.jpg".casefold() for source in sources}  # an overlay is no folder


def test_a_file_is_taken_once_and_a_link_to_it_has_results_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    os.symlink("a.png", "b.png")
    sources = find_sources(["a.png", "./a.png", tmp_path / "a.png", "b.png"])
    assert [source.name for source in sources] == ["a", "b"]


def test_folder_and_pattern_take_the_same_files_through_links(tmp_path):
    folder = tmp_path / "in"
    picture(folder / "a.png")
    picture(tmp_path / "disk" / "b.png")
    os.symlink("../disk", folder / "more")
    os.symlink("..", folder / "up")
    os.symlink("../in", tmp_path / "disk" / "back")
    expected = [folder / "a.png", folder / "more" / "b.png"]
    for path in (folder, str(folder / "**/*.png"), str(folder / "**")):
        assert [source.path for source in find_sources([path])] == expected


def test_what_a_folder_has_besides_is_listed(tmp_path, caplog, monkeypatch):
    picture(tmp_path / "a.png")
    for name in ("IMG.HEIC", "raw.CR2", "scan.pdf", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty.jpg").touch()
    os.symlink("gone.jpg", tmp_path / "broken.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    locked = tmp_path / "locked"
    locked.mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(locked):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(locked))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reasons = {
        "IMG.HEIC": r"IMG\.HEIC is of a format \(\.heic\) that is not read; convert it",
        "raw.CR2": r"\.cr2",
        "scan.pdf": r"\.pdf",
        "empty.jpg": r"empty\.jpg is empty \(0 bytes\)",
        "broken.jpg": r"broken\.jpg is a link to gone\.jpg, which does not exist",
        "locked": r"locked is a folder that cannot be read \(Permission denied\)",
    }
    for path in (tmp_path, str(tmp_path / "**" / "*")):
        caplog.clear()
        sources = {source.path.name: source for source in find_sources([path])}
        assert sources.keys() == {"a.png", *reasons}
        for name, reason in reasons.items():
            with pytest.raises(ValueError, match=reason):
                list(read_frames(sources[name]))
        assert "notes.txt" in caplog.text and "pipe.png" in caplog.text and ".hidden" not in caplog.text


def test_a_folder_of_unread_formats_is_refused_with_what_is_there(tmp_path):
    (tmp_path / "IMG.HEIC").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no picture and no video in .* What is there: \[.*IMG\.HEIC\]"):
        find_sources([tmp_path])


@pytest.mark.parametrize("name", ["trip [2024]", "what?", "all*"])
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path, name):
    picture(tmp_path / name / "a.png")
    assert [source.path.name for source in find_sources([str(tmp_path / name / "*.png")])] == ["a.png"]
    assert [source.path.name for source in find_sources([str(tmp_path / name / "**/[ab].png")])] == ["a.png"]
    (gone,) = find_sources([str(tmp_path / name / "gone.png")])
    with pytest.raises(FileNotFoundError, match=r"no image at .*gone\.png"):
        list(read_frames(gone))
    with pytest.raises(ValueError, match=r"\[abc\] is one of these characters, and \[\[\] a bracket"):
        find_sources([str(tmp_path / name / "[xy].png")])


def test_further_images_of_a_file_are_named(tmp_path, caplog):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture(tmp_path / "b.png")
    with caplog.at_level(logging.WARNING):
        assert sum(len(list(read_frames(source))) for source in find_sources([tmp_path])) == 2
    assert "a.gif has 3 images, of which only the first is taken" in caplog.text and "b.png" not in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.skipif(
    tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 12), reason="OpenCV takes no such names before 4.12"
)
def test_a_video_whose_name_is_no_utf_8(video):
    """OpenCV crashes where such a name comes as a str."""
    odd = os.fsdecode(os.fsencode(video.parent) + b"/caf\xe9.avi")
    os.rename(video, odd)
    (source,) = find_sources([odd])
    assert len(list(read_frames(source))) == 5
