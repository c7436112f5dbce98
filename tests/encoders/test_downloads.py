"""Fetching weights from a server on this machine: resume, checksums, and what is said when it does not work."""

import hashlib
import http.server
import socket
import threading

import pytest

from possam.encoders import downloads, weight_files
from possam.encoders.downloads import WEIGHTS, NoConnection, WeightFile, download, verify

CONTENT = bytes(range(256)) * 5000  # more than one block
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REPO, REVISION = "someone/some-clip", "a" * 40


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes at most a connection, without ranges if so told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut, self.ranges, self.content, self.requests = None, True, CONTENT, []
        self.hub_file = "open_clip_model.safetensors"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.command, self.path, wanted))
        if self.path.endswith(("missing.pth", "open_clip_model.safetensors")) and not self.path.endswith(
            server.hub_file
        ):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and server.ranges else 0
        rest = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Repo-Commit", REVISION)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if body:
            self.wfile.write(rest if server.cut is None else rest[: server.cut])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def offer(monkeypatch, url, **changes):
    entry = {"name": "toy", "filename": "toy.pth", "model": "vit_b", "url": url, "size": len(CONTENT), "sha256": SHA256}
    toy = WeightFile(**{**entry, **changes})
    monkeypatch.setitem(WEIGHTS, "toy", toy)
    monkeypatch.setattr(weight_files, "_FILES", (*weight_files._FILES, toy))
    return toy


def test_a_file_is_fetched_once(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/toy.pth")
    path = download("toy", tmp_path / "deep")
    assert path == tmp_path / "deep" / "toy.pth" and path.read_bytes() == CONTENT
    assert download("toy", tmp_path / "deep") == path
    assert len(server.requests) == 1
    assert [file.name for file in path.parent.iterdir()] == ["toy.pth"]


def test_a_cut_connection_goes_on_where_it_stopped(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/toy.pth")
    server.cut = 500_000
    assert download("toy", tmp_path).read_bytes() == CONTENT
    assert [wanted for _, _, wanted in server.requests] == [None, "bytes=500000-", "bytes=1000000-"]


@pytest.mark.parametrize("name", ["toy.pth.part", "toy.pth"], ids=["ours", "under the final name"])
def test_a_part_of_an_earlier_run_is_continued(server, monkeypatch, tmp_path, name):
    offer(monkeypatch, f"{server.url}/toy.pth")
    (tmp_path / name).write_bytes(CONTENT[:700_001])
    assert download("toy", tmp_path).read_bytes() == CONTENT
    assert [wanted for _, _, wanted in server.requests] == ["bytes=700001-"]


def test_a_server_without_ranges_sends_the_whole_again(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/toy.pth")
    server.ranges = False
    (tmp_path / "toy.pth.part").write_bytes(b"wrong" * 100)
    assert download("toy", tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_told_and_the_file_removed(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/toy.pth")
    server.content = CONTENT[::-1]
    got = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(ValueError, match=f"sha256 is {got}, but that of toy is {SHA256}.*removed"):
        download("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_file_under_the_name_is_not_overwritten(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/toy.pth")
    (tmp_path / "toy.pth").write_bytes(b"mine" + CONTENT)
    with pytest.raises(ValueError, match="is another file.*Move it away"):
        download("toy", tmp_path)
    assert (tmp_path / "toy.pth").read_bytes() == b"mine" + CONTENT and not server.requests


def test_a_missing_file_is_told_at_once(server, monkeypatch, tmp_path):
    offer(monkeypatch, f"{server.url}/missing.pth")
    with pytest.raises(NoConnection, match=rf"missing.pth \(HTTP 404.*put the file at {tmp_path}/toy.pth"):
        download("toy", tmp_path)
    assert len(server.requests) == 1


def test_without_a_network_it_is_told_what_to_do_by_hand(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    offer(monkeypatch, f"http://127.0.0.1:{port}/toy.pth")
    with pytest.raises(NoConnection, match="[Rr]efused.*possam weights download toy.*possam weights verify"):
        download("toy", tmp_path)
    with pytest.raises(ValueError, match="unknown weights 'sam_vitb'. Did you mean 'sam_vit_b'.*names: sam_vit_b"):
        download("sam_vitb", tmp_path)


def offer_hub(monkeypatch):
    return offer(monkeypatch, "", filename="toy.tag.safetensors", repo=REPO, size=None, sha256=None)


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_repositorys_file_is_what_open_clip_would_take(server, monkeypatch, tmp_path, file):
    toy = offer_hub(monkeypatch)
    server.hub_file = file
    path = downloads._from_hub(toy, tmp_path, server.url)
    assert path.name == ("toy.tag.safetensors" if "safe" in file else "toy.tag.bin")
    assert path.read_bytes() == CONTENT
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, f"{path.name}.sha256"]
    before = len(server.requests)
    assert downloads._from_hub(toy, tmp_path, server.url) == path and len(server.requests) == before
    assert "whole" in verify(path)


def test_a_repositorys_wrong_file_is_removed(server, monkeypatch, tmp_path):
    toy = offer_hub(monkeypatch)
    server.content = CONTENT[::-1]
    with pytest.raises(ValueError, match=f"but that of toy is {SHA256}.*removed"):
        downloads._from_hub(toy, tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_hub_is_told(monkeypatch, tmp_path):
    toy = offer_hub(monkeypatch)
    with pytest.raises(NoConnection, match=f"https://huggingface.co/{REPO}.*possam weights download toy"):
        downloads._from_hub(toy, tmp_path, "http://127.0.0.1:9")


def test_a_repositorys_file_is_checked_by_what_was_noted_or_by_the_server(monkeypatch, tmp_path):
    toy = offer_hub(monkeypatch)
    path = tmp_path / toy.filename
    path.write_bytes(CONTENT)
    monkeypatch.setattr(downloads, "_hub_file", lambda weights: downloads._HubFile("x", REVISION, SHA256))
    assert "is toy, and whole" in verify(path)

    def offline(weights):
        raise NoConnection("no route")

    monkeypatch.setattr(downloads, "_hub_file", offline)
    with pytest.raises(NoConnection, match=f"cannot check {path}.*toy.tag.safetensors.sha256"):
        verify(path)
    (tmp_path / "toy.tag.safetensors.sha256").write_text(f"{'0' * 64}  {toy.filename}\n")
    with pytest.raises(ValueError, match=f"its sha256 is {SHA256}, but that of toy is 000"):
        verify(path)


def test_verify(monkeypatch, tmp_path):
    offer(monkeypatch, "http://nowhere")
    path = tmp_path / "toy.pth"
    path.write_bytes(CONTENT)
    assert verify(path) == f"{path} is toy, and whole (sha256 {SHA256})."
    other = tmp_path / "mine.pth"
    other.write_bytes(CONTENT)
    assert "toy under another name" in verify(other)
    path.write_bytes(CONTENT[:1000])
    with pytest.raises(ValueError, match="it has 1000 bytes, but toy has 1280000: only a part.*weights download toy"):
        verify(path)
    other.write_bytes(CONTENT[:1000])
    with pytest.raises(ValueError, match="nothing is known of .*sam_vit_b_01ec64.pth"):
        verify(other)
    with pytest.raises(FileNotFoundError, match="no file"):
        verify(tmp_path / "none.pth")


def test_the_table_says_what_torchvision_and_timm_say():
    import timm
    from torchvision.models import get_model_weights

    backbones = {name: weights for name, weights in WEIGHTS.items() if weights.kind == "backbone"}
    assert set(backbones) == {"resnet50", "resnet101", "swin_small", "swin_large"}
    for name, weights in backbones.items():
        if weights.url:
            assert get_model_weights(name)[weights.tag].url == weights.url
            assert weights.sha256.startswith(weights.filename.partition("-")[2].removesuffix(".pth"))
        else:
            owner, model = weights.repo.split("/")
            assert owner == "timm" and timm.get_pretrained_cfg(model).tag == weights.tag


def test_the_table_says_what_open_clip_says():
    from open_clip.pretrained import get_pretrained_cfg

    for name, weights in WEIGHTS.items():
        assert name == weights.name
        if weights.kind == "clip":
            assert get_pretrained_cfg(weights.model, weights.tag)["hf_hub"] == f"{weights.repo}/"
            assert weights.filename == f"{weights.model}.{weights.tag}.safetensors"
        elif weights.url:
            assert weights.url.endswith("/" + weights.filename) and len(weights.sha256) == 64
    assert len({weights.filename for weights in WEIGHTS.values()}) == len(WEIGHTS)
