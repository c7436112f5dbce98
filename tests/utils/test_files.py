import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from possam.utils.files import expand_home, full_path, read_json, read_text, read_yaml, write_atomically, write_json


def test_round_trip_makes_folders(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2]})
    assert read_json(tmp_path / "a" / "b.json") == {"x": [1, 2]}
    assert os.listdir(tmp_path / "a") == ["b.json"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def half(file):
        file.write(b"{")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomically(path, half)
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def raising(*error):
    def write(*_, **__):
        raise OSError(*error)

    return write


def test_an_error_of_the_system_names_the_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    full = (errno.ENOSPC, "No space left on device")
    for write, filename in (
        (raising(*full), str(path)),
        (raising(*full, "another.png"), "another.png"),
        (raising("without a number"), None),
    ):
        with pytest.raises(OSError) as caught:
            write_atomically(path, write)
        assert caught.value.filename == filename
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(tempfile, "mkstemp", raising(errno.EACCES, "Permission denied", f"{tmp_path}/.x.json.abc.tmp"))
    with pytest.raises(PermissionError) as caught:
        write_json(path, {})
    assert caught.value.filename == str(path)


def test_the_first_error_is_not_hidden_by_a_temporary_file_that_cannot_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "unlink", raising(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x.json", raising(errno.ENOSPC, "No space left on device"))


def test_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "x.json", {})
    assert (tmp_path / "x.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps("text")])
def test_read_json_names_the_file(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="bad.json"):
        read_json(path)


def test_read_json_of_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        read_json(tmp_path / "none.json")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, {"z": float("nan")}]})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [1.5, {"z": None}]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_json_that_is_too_deep_or_has_too_long_a_number_is_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match="bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_a_folder_in_place_of_json_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "has the key 'a' twice, in line 1 and in line 3"),
        ("a: {b: 1, b: 1}\n", "has the key 'b' twice, in line 1 and in line 1"),
        ("x:\n  - a: 1\n    'a': 2\n", "has the key 'a' twice, in line 2 and in line 3"),
        ("{}\n", ""),
        ("a: {b: 1}\nc: {b: 1}\n", ""),
        ("x: &x {a: 1, b: 2}\nz: {<<: *x, a: 3, b: 4}\n", ""),  # a merge may be overridden
    ],
)
def test_a_key_twice_in_one_mapping_is_named(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    if not message:
        assert read_yaml(path).get("z", {"a": 3, "b": 4}) == {"a": 3, "b": 4}
        return
    with pytest.raises(ValueError, match=f"a.yaml {message}"):
        read_yaml(path)


def test_environment_variables_are_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "~/fast")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert expand_home("$SCRATCH/runs") == "/home/me/fast/runs"
    assert expand_home("/a/${SCRATCH}x") == "/a/~/fastx"
    for path in ("$NOWHERE/a", "/a/${NOWHERE}/b"):
        with pytest.raises(ValueError, match=r"has the environment variable \$\{?NOWHERE\}?, which is not set"):
            expand_home(path)
    monkeypatch.chdir(tmp_path)
    for name in ("$NOWHERE", "cost $100", "a$"):  # names of files
        Path(name).touch()
        assert expand_home(name) == name


def test_a_home_folder_is_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert expand_home("~/a//b") == "/home/me/a//b"
    assert str(full_path("~")) == "/home/me"
    for path in ("", "a~b", "./~/a", "https://a.b/c", "/x/~"):
        assert expand_home(path) == path
    with pytest.raises(ValueError, match="~nobody_/a begins with ~nobody_, a home folder that is unknown"):
        expand_home("~nobody_/a")
    (tmp_path / "~nobody_").touch()
    assert expand_home("~nobody_") == "~nobody_"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_as_windows_writes_it_is_read(tmp_path, encoding):
    """PowerShell writes UTF-16 and Notepad UTF-8, with a byte order mark."""
    from possam.data.preparation.image_links import read_list
    from possam.vocabulary import Vocabulary

    path = tmp_path / "a.json"
    path.write_text(json.dumps({"x": "狗"}, ensure_ascii=False), encoding=encoding)
    assert read_json(path) == read_yaml(path) == {"x": "狗"}
    path.write_text('{"name": "v", "classes": [{"id": 3, "names": ["狗"], "isthing": 1}]}', encoding=encoding)
    assert Vocabulary.load(path).names == ("狗",)
    (tmp_path / "val.txt").write_text("2008_000002\n2008_000003 1\n", encoding=encoding)
    assert read_list(tmp_path / "val.txt", "") == ["2008_000002", "2008_000003"]


@pytest.mark.parametrize("content", [b"\xff\xfea", b"\xfe\xff\xd8\x00", b"\xef\xbb\xbf\xff", b"\x80"])
def test_text_that_does_not_decode_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="a.json is not text in UTF-8 .* save it as UTF-8"):
        read_text(tmp_path / "a.json")
    with pytest.raises(ValueError, match="a.json is not text in UTF-8 .* save it as UTF-8"):
        read_yaml(tmp_path / "a.json")
