"""Class names that other projects have published: read from their files, fetched once, never trusted blindly."""

import hashlib
import http.server
import os
import threading
from pathlib import Path

import pytest
import torch

from possam.vocabulary import ClassEmbeddings, Vocabulary, published
from possam.vocabulary.published import PUBLICATIONS, check_class_names_source, published_vocabulary, read_names

FCCLIP = PUBLICATIONS["fcclip"]
CHECKOUT = "POSSAM_FCCLIP_CHECKOUT"  # a checkout of FC-CLIP at the commit of `PUBLICATIONS`
# Classes, names (a repeated one counted once), and classes that share a name with COCO's list.
PUBLISHED = {
    "coco_panoptic": (133, 254, 133),
    "ade20k_150": (150, 402, 64),
    "ade20k_847": (847, 1341, 101),
    "cityscapes": (19, 60, 17),
    "mapillary_vistas": (65, 152, 26),
    "pascal_context_59": (59, 160, 51),
    "pascal_context_459": (459, 559, 85),
    "pascal_voc_21": (21, 151, 21),
    "pascal_voc_20": (20, None, 20),
    "coco_stuff": (171, 328, 135),
    "lvis": (1203, 1825, None),
}


def lines(table, *, first=0, change=lambda names: names):
    """A file for a table: its own names, each class with a plural."""
    classes = Vocabulary.load(table).categories
    rows = [f"{number}:{change(one.names[0])},{one.names[0]}s" for number, one in enumerate(classes, start=first)]
    return "\n".join(["0:invalid_class_id"] * first + rows)


def folder_of(tmp_path, table, text, inside=""):
    path = tmp_path / inside / FCCLIP.files[table].name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tmp_path


def test_a_name_file_is_read_line_by_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("0:invalid_class_id\n1:person, child,man\n3:invalid_class_id\n4:tile,bag,Tile,bag,box\n")
    assert read_names(path) == [("person", "child", "man"), ("tile", "bag", "box")]


@pytest.mark.parametrize("line", ["person", "x:person", "2:", "2:person,,child", "1:person", "", "２:person"])
def test_a_line_of_another_form_is_named(tmp_path, line):
    path = tmp_path / "names.txt"
    path.write_text(f"1:sky\n{line}\n3:sea\n")
    with pytest.raises(ValueError, match=r"names.txt, line 2: expected an id above 1, a colon and names"):
        read_names(path)


@pytest.mark.parametrize("inside", ["", "fcclip/data/datasets"])
def test_the_classes_of_the_table_get_the_names_of_a_folder(tmp_path, inside, caplog):
    folder = folder_of(tmp_path, "cityscapes", lines("cityscapes"), inside)
    found, table = published_vocabulary("cityscapes", str(folder)), Vocabulary.load("cityscapes")
    assert (found.name, len(found)) == ("cityscapes_fcclip", 19)
    assert found.isthing == table.isthing and found.contiguous_id == table.contiguous_id
    assert found.categories[0].names == ("road", "roads") and found.categories[0].dataset_name == "road"
    assert "not FC-CLIP's file of commit 2b0bbe2" in caplog.text


def test_voc_without_its_background(tmp_path):
    folder = str(folder_of(tmp_path, "pascal_voc_21", lines("pascal_voc_21")))
    whole, without = (published_vocabulary(f"pascal_voc_{count}", folder) for count in (21, 20))
    assert without.names == whole.names[2:] and without.isthing == Vocabulary.load("pascal_voc_20").isthing


def test_another_number_of_classes_is_refused(tmp_path):
    text = lines("cityscapes").rsplit("\n", 1)[0]
    with pytest.raises(ValueError, match=r"names 18 classes, but cityscapes needs 19; take the file of bytedance"):
        published_vocabulary("cityscapes", str(folder_of(tmp_path, "cityscapes", text)))


def test_sources_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="neither one of fcclip, nor a folder .*Did you mean 'fcclip'"):
        check_class_names_source("fclip")
    with pytest.raises(FileNotFoundError, match="has no fcclip/data/datasets/cityscapes_with_prompt_eng.txt and no"):
        published_vocabulary("cityscapes", str(tmp_path))
    with pytest.raises(ValueError, match="FC-CLIP has no class names for 'mini_b', only for ade20k_150"):
        published_vocabulary("mini_b", "fcclip")


def test_a_name_may_belong_to_two_classes_of_a_published_list_alone(tmp_path):
    text = lines("cityscapes", change=lambda name: "wall" if name == "fence" else name)
    found = published_vocabulary("cityscapes", str(folder_of(tmp_path, "cityscapes", text)))
    wall, fence = (number for number, one in enumerate(found.categories) if "wall" in one.names)
    assert found.things().shared_names
    found.to_json(tmp_path / "table.json")
    assert Vocabulary.from_file(tmp_path / "table.json") == found
    with pytest.raises(ValueError, match="gives the name 'wall' to two classes"):
        Vocabulary(name="typed", categories=found.categories)
    # Equal scores: the lower class is taken.
    rows = torch.nn.functional.normalize(torch.randn(len(found.names), 8), dim=-1)
    first, second = (place for place, name in enumerate(found.names) if name == "wall")
    rows[second] = rows[first].clone()
    text = ClassEmbeddings(embeddings=rows, class_index=torch.tensor(found.name_class), num_classes=len(found))
    logits = text.logits(rows[first], 1.0)
    assert logits[wall] == logits[fence] and logits.argmax() == wall < fence


class Server(http.server.BaseHTTPRequestHandler):
    content = b""
    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    handler = type("Handler", (Server,), {"asked": [], "content": lines("cityscapes").encode()})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(published, "_RAW", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = published.NameFile(name="city.txt", sha256=hashlib.sha256(handler.content).hexdigest())
    monkeypatch.setitem(FCCLIP.files, "cityscapes", file)
    yield handler
    running.shutdown()
    running.server_close()


def test_files_are_fetched_once_at_the_pinned_commit(server, tmp_path):
    first, second = (published_vocabulary("cityscapes", "fcclip") for _ in range(2))
    assert first == second and first.names[:2] == ("road", "roads")
    assert server.asked == [f"/bytedance/fc-clip/{FCCLIP.commit}/fcclip/data/datasets/city.txt"]
    (kept,) = (tmp_path / "cache").rglob("*.txt")
    kept.write_text("damaged")
    assert published_vocabulary("cityscapes", "fcclip") == first and len(server.asked) == 2


def test_another_content_is_refused_and_not_kept(server, tmp_path):
    server.content = b"0:road\n"
    with pytest.raises(ValueError, match=r"has the sha256 .* but .* was expected.*Clone .*DATASETS.CLASS_NAMES"):
        published_vocabulary("cityscapes", "fcclip")
    assert not list((tmp_path / "cache").rglob("*.txt"))


def test_no_connection_says_what_to_do(server, monkeypatch):
    monkeypatch.setattr(published, "_RAW", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched .*Clone https://github.com/bytedance/fc-clip"):
        published_vocabulary("cityscapes", "fcclip")


@pytest.mark.skipif(not os.environ.get(CHECKOUT), reason=f"{CHECKOUT} does not name a checkout of FC-CLIP")
def test_the_published_files_have_their_counts(caplog):
    folder = os.environ[CHECKOUT]
    coco = published_vocabulary("coco_panoptic", folder)
    for table, (classes, names, seen) in PUBLISHED.items():
        found = published_vocabulary(table, folder)
        assert len(found) == classes
        assert names in (None, len(found.names)) and seen in (None, sum(found.seen(coco)))
    assert not caplog.records, "each file has its checksum"
    assert set(PUBLISHED) == set(FCCLIP.files)


def test_no_published_file_is_in_the_repository():
    assert not list(Path(__file__).parents[2].glob("possam/**/*_with_prompt_eng.txt"))
