"""Pictures behind addresses, from a server on this machine."""

import io
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.data import addresses
from possam.data.pictures import to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
_FILE = io.BytesIO()
Image.fromarray(RGB).save(_FILE, format="PNG")
PNG = _FILE.getvalue()


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        moved = {"/moved": "/a.png", "/local": "file:///etc/hostname", "/round": "/round"}.get(self.path)
        if moved:
            self.send_response(302)
            self.send_header("Location", moved)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/none":
            self.send_error(404)
        elif self.path == "/silent":
            self.server.over.wait(5)
        else:
            content = {"/a.png?size=1": PNG, "/a.png": PNG, "/cut": PNG, "/text": b"text", "/empty": b""}[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + 9 * (self.path == "/cut")))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    served.over = threading.Event()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.over.set()
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_picture_at_an_address_is_read(server):
    for address in (f"{server}/a.png", f"{server}/a.png?size=1", f"{server}/moved", Path(f"{server}/a.png")):
        assert np.array_equal(to_rgb(address), RGB)
    assert addresses.web_address("HTTPS:/b.org/c//d") == "https://b.org/c//d"
    assert not addresses.web_address("a/http://b") and not addresses.web_address("http:")


@pytest.mark.parametrize(
    "path, message",
    [
        ("none", "answers 404 .Not Found.; check the address"),
        ("text", "/text cannot be read as an image"),
        ("empty", "is empty; try again"),
        ("cut", "broke off 9 bytes before the end"),
        ("local", "answers 302"),
        ("round", "answers 302"),
    ],
)
def test_what_is_no_picture_is_named(server, path, message):
    with pytest.raises(ValueError, match=message):
        to_rgb(f"{server}/{path}")


def test_limits_of_size_and_time(server, monkeypatch):
    monkeypatch.setattr(addresses, "_SILENCE", 0.1)
    with pytest.raises(ValueError, match="did not answer for 0.1 seconds"):
        to_rgb(f"{server}/silent")
    monkeypatch.setattr(addresses, "_LARGEST", len(PNG) - 1)
    with pytest.raises(ValueError, match="has more than 0 MB; download it"):
        to_rgb(f"{server}/a.png")
    monkeypatch.setattr(addresses, "_LARGEST", len(PNG))
    monkeypatch.setattr(addresses, "_LONGEST", 0)
    with pytest.raises(ValueError, match="takes more than 0 seconds"):
        to_rgb(f"{server}/a.png")


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match="cannot be opened .*; check the address and the network"):
        to_rgb(f"http://127.0.0.1:{port}/a.png")
