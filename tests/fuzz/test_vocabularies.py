"""Vocabulary and overlap files of any content, and anything for words: a vocabulary, or a ValueError that names it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import possam.vocabulary.overlaps as overlaps
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.configured import register_from_config
from possam.vocabulary import Vocabulary
from possam.vocabulary.words import read_line, read_words, split_words
from tests.fuzz.mutations import TEXTS, VALUES, cases, damaged, mutated, read
from tests.fuzz.test_annotation_files import PANOPTIC

TABLE = {
    "name": "own",
    "source": "a person",
    "classes": [
        {"id": 3, "dataset_name": "dog", "names": ["dog", "hound"], "isthing": 1},
        {"id": 7, "names": ["grass"], "isthing": 0},
    ],
}
OVERLAP = {
    "train": "a", "test": "b", "version": 1, "rule": "any", "train_sha256": "0" * 64, "test_sha256": "1" * 64,
    "seen": ["dog"], "unseen": ["cat"],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("vocabularies")


def check_vocabulary(path):
    vocabulary = read(lambda: Vocabulary.from_file(path), path)
    if vocabulary is not None:
        assert len(vocabulary) == len(vocabulary.contiguous_id) == len(vocabulary.display_names)
        assert vocabulary.sha256 and all(isinstance(name, str) and name for name in vocabulary.names)
        "".join((vocabulary.name, vocabulary.source, *vocabulary.names)).encode()
        vocabulary.to_json(path.with_suffix(".again.json"))
        assert Vocabulary.from_file(path.with_suffix(".again.json")) == vocabulary


@cases(500)
@given(content=mutated(TABLE))
def test_a_vocabulary_of_any_content(place, content):
    path = place / "own.json"
    path.write_text(json.dumps(content))
    check_vocabulary(path)


@cases(300)
@given(content=damaged(json.dumps(TABLE, indent=1).encode()))
def test_a_vocabulary_of_any_bytes(place, content):
    path = place / "own.json"
    path.write_bytes(content)
    check_vocabulary(path)


def test_a_large_file_of_something_else_is_a_short_message(place):
    path = place / "large.json"
    for content in ([0] * 100_000, {**TABLE, "classes": [["x" * 100_000]]}, {**TABLE, "name": [0] * 100_000}):
        path.write_text(json.dumps(content))
        assert read(lambda: Vocabulary.from_file(path), path) is None


ENTRIES = st.sampled_from(["dog", "sofa, couch", "lawn: stuff", "logo: thing", "a:b", ":", "a,,b", ": stuff", "dog "])


@cases(300)
@given(words=st.lists(ENTRIES | TEXTS | VALUES, max_size=4))
def test_words_of_any_kind(words):
    vocabulary = read(lambda: read_words(words), "word", "mark", "name", "class")
    assert vocabulary is None or len(vocabulary) == len(words)


@cases(300)
@given(parts=st.lists(ENTRIES | TEXTS, max_size=4), joint=st.sampled_from([",", "|", ":", ""]))
def test_a_line_of_any_text(parts, joint):
    line = joint.join(parts)
    assert all(isinstance(entry, str) for entry in split_words(line))
    vocabulary = read(lambda: read_line(line), "word", "mark", "name", "class", "vocabulary", line)
    assert vocabulary is None or len(vocabulary) > 0


@cases(300)
@given(
    content=mutated(OVERLAP).map(lambda content: json.dumps(content).encode())
    | damaged(json.dumps(OVERLAP).encode())
)
def test_an_overlap_of_any_content(place, content):
    folder, kept = place / "overlaps", overlaps._FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "a_to_b.json").write_bytes(content)
    overlaps.find_overlap.cache_clear()
    overlaps._FOLDER = folder
    try:
        found = read(lambda: overlaps.find_overlap("a", "b"), folder)
    finally:
        overlaps._FOLDER = kept
        overlaps.find_overlap.cache_clear()
    if found is not None:
        assert all(isinstance(name, str) for name in (found.train, found.test, found.rule, *found.seen, *found.unseen))
        assert isinstance(found.version, int)


OWN = [
    {"name": "fuzz_a", "image_root": "i", "panoptic_root": "p", "panoptic_json": "p.json", "vocabulary": "mini_a"},
    {"name": "fuzz_b", "image_root": "i", "panoptic_root": "p", "panoptic_json": "{json}"},
]
OWN_SEMANTIC = [
    {
        "name": "fuzz_c",
        "image_root": "i",
        "label_root": "l",
        "vocabulary": "mini_a",
        "ignore_label": 255,
        "image_suffix": ".jpg",
        "label_suffix": ".png",
    },
]


@cases(400)
@given(
    entries=st.sampled_from(["PANOPTIC", "SEMANTIC"]).flatmap(
        lambda kind: st.tuples(st.just(kind), mutated(OWN if kind == "PANOPTIC" else OWN_SEMANTIC))
    ),
    categories=st.just(PANOPTIC["categories"]) | mutated(PANOPTIC["categories"]),
)
def test_own_datasets_of_any_kind(place, entries, categories):
    kind, entries = entries
    path = place / "categories.json"
    path.write_text(json.dumps({"categories": categories}))
    if isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, dict) and entry.get("panoptic_json") == "{json}":
                entry["panoptic_json"] = str(path)
    before = set(DatasetCatalog.list())
    try:
        names = read(lambda: register_from_config(entries, kind), f"DATASETS.{kind}", path)
        assert names is None or all(isinstance(name, str) for name in names)
    finally:
        for name in set(DatasetCatalog.list()) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
