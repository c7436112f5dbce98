"""Trees from WordNet, with a small stand-in for nltk's corpus; the real one is not needed."""

import sys
import types

import pytest

from possam.vocabulary import Hierarchy
from possam.vocabulary.wordnet import hierarchy_from_wordnet

# synset: its hypernyms, its lemmas
SYNSETS = {
    "entity.n.01": ([], ["entity"]),
    "animal.n.01": (["entity.n.01"], ["animal", "beast"]),
    "feline.n.01": (["animal.n.01"], ["feline"]),
    "cat.n.01": (["feline.n.01"], ["cat", "true_cat"]),
    "siamese_cat.n.01": (["cat.n.01"], ["Siamese_cat", "Siamese"]),
    "tabby.n.01": (["cat.n.01"], ["tabby"]),
    "crane.n.05": (["animal.n.01", "feline.n.01"], ["crane"]),
    "device.n.01": (["entity.n.01"], ["device"]),
    "crane.n.04": (["device.n.01"], ["crane"]),
    "lever.n.01": (["device.n.01"], ["lever", "crane"]),
}


class Synset:
    def __init__(self, name):
        self._name = name

    def name(self):
        return self._name

    def hypernyms(self):
        return [CORPUS[name] for name in SYNSETS[self._name][0]]

    def instance_hypernyms(self):
        return []

    def lemma_names(self):
        return SYNSETS[self._name][1]


CORPUS = {name: Synset(name) for name in SYNSETS}


class WordNetError(Exception):
    pass


def _synset(name):
    if name not in CORPUS:
        raise WordNetError(name)
    return CORPUS[name]


def install(monkeypatch, *, loaded=True):
    def ensure_loaded():
        if not loaded:
            raise LookupError("Resource wordnet not found.")

    corpus = types.SimpleNamespace(
        ensure_loaded=ensure_loaded,
        synset=_synset,
        synsets=lambda word, pos: [CORPUS[n] for n, (_, lemmas) in SYNSETS.items() if pos == "n" and word in lemmas],
        synset_from_pos_and_offset=lambda pos, offset: CORPUS["tabby.n.01"] if offset == 2123159 else None,
    )
    modules = {"nltk": {}, "nltk.corpus": {"wordnet": corpus}, "nltk.corpus.reader": {}}
    for name, content in {**modules, "nltk.corpus.reader.wordnet": {"WordNetError": WordNetError}}.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def test_the_tree_above_some_names(monkeypatch, tmp_path):
    install(monkeypatch)
    tree = hierarchy_from_wordnet(["Siamese_cat", "n02123159", "crane.n.05", "crane.n.04", "lever"], stop_below=0.3)
    paths = {tree.vocabulary.display_names[leaf]: tree.path_to(leaf) for leaf in tree.leaves}
    names = {leaf: [tree.vocabulary.display_names[node] for node in path] for leaf, path in paths.items()}
    assert names == {
        "Siamese cat": ["entity", "animal", "cat", "Siamese cat"],  # "feline" has nothing else below it
        "tabby": ["entity", "animal", "cat", "tabby"],
        "crane": ["entity", "animal", "crane"],  # by its first hypernym alone
        "crane (device)": ["entity", "device", "crane (device)"],
        "lever": ["entity", "device", "lever"],
    }
    categories = {one.dataset_name: one.names for one in tree.vocabulary.categories}
    assert categories["cat.n.01"] == ("cat", "true cat") and categories["lever.n.01"] == ("lever",)
    assert tree.stop_below == 0.3
    tree.to_json(tmp_path / "wordnet.json")
    again = Hierarchy.from_file(tmp_path / "wordnet.json")
    assert again.parents == tree.parents and again.vocabulary.names == tree.vocabulary.names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected a list of names"),
        ("cat", "expected a list of names"),
        (["dragonx"], "no noun 'dragonx'"),
        (["cat.n.09"], "no noun 'cat.n.09'"),
        (["n00000001"], "no noun 'n00000001'"),
        (["cat", "cat.n.01"], "'cat' and 'cat.n.01' are both cat.n.01"),
    ],
)
def test_mistakes(monkeypatch, names, message):
    install(monkeypatch)
    with pytest.raises(ValueError, match=message):
        hierarchy_from_wordnet(names)


def test_without_nltk_or_its_corpus(monkeypatch):
    install(monkeypatch, loaded=False)
    with pytest.raises(FileNotFoundError, match="python -m nltk.downloader wordnet"):
        hierarchy_from_wordnet(["cat"])
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(ImportError, match="pip install nltk"):
        hierarchy_from_wordnet(["cat"])
