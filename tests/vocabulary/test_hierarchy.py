"""Trees of names: their form and its mistakes, and the classification from the top down."""

import json
import math

import pytest
import torch

from possam.vocabulary import Hierarchy, Vocabulary

TREE = {
    "thing": {"animal": {"cat, kitty": ["siamese cat", "tabby"], "dog": {}}, "car": {}},
    "stuff": {"sky": {}, "lawn|grass": {}},
}
NAMES = ("thing", "animal", "cat", "siamese cat", "tabby", "dog", "car", "stuff", "sky", "lawn")


@pytest.fixture(scope="module")
def tree():
    return Hierarchy.from_tree(TREE)


def written(tmp_path, text):
    path = tmp_path / "tree.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_parents_come_before_their_children(tree):
    assert tree.vocabulary.display_names == NAMES
    assert tree.parents == (-1, 0, 1, 2, 2, 1, 0, -1, 7, 7)
    assert [NAMES[leaf] for leaf in tree.leaves] == ["siamese cat", "tabby", "dog", "car", "sky", "lawn"]
    assert [NAMES[node] for node in tree.path_to(3)] == ["thing", "animal", "cat", "siamese cat"]
    assert tree.vocabulary.categories[2].names == ("cat", "kitty")
    assert tree.vocabulary.categories[9].names == ("lawn", "grass")


def test_a_mark_holds_for_all_below_it():
    marked = Hierarchy.from_tree({"thing": ["sky"], "stuff": {"logo": ["sign"], "kite: thing": ["dragon"]}, "sand": {}})
    names = marked.vocabulary.display_names
    assert dict(zip(names, marked.vocabulary.isthing, strict=True)) == {
        "thing": True, "sky": True, "stuff": False, "logo": False, "sign": False, "kite": True, "dragon": True,
        "sand": False,
    }  # fmt: skip


def test_a_file_is_read_and_written(tree, tmp_path):
    path = written(tmp_path, json.dumps(TREE))
    read = Hierarchy.from_file(path, stop_below=0.5)
    assert read.parents == tree.parents and read.vocabulary.categories == tree.vocabulary.categories
    assert read.stop_below == 0.5
    odd = Hierarchy.from_tree({"light": ['"traffic light, red"', "cup (tea, coffee)|mug"], "sky": {}})
    odd.to_json(tmp_path / "odd.json")
    assert Hierarchy.from_file(tmp_path / "odd.json").vocabulary.categories == odd.vocabulary.categories


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": {"A": {}}}}', "has a cycle: 'a' → 'b' → 'A'"),
        ('{"a": {"x": {}}, "b": {"x": {}}}', "has the name 'x' below two parents, 'a' and 'b'"),
        ('{"a": {"x": {}}, "x": {}}', "has the name 'x' below two parents, 'a' and the top"),
        ('{"a": {"x": {}, "x": {}}}', "has the name 'x' twice below 'a'"),
        ('{"a": ["x|y", "y"]}', "has the name 'y' twice below 'a'"),
        ('{"a": {}, "a": {}}', "has the name 'a' twice below the top"),
        ('{"a|A": {}}', "lists the name 'A' twice"),
        ('{"a": {"": {}}}', "word number 2 is empty"),
        ('{"a: animal": {}}', "mark 'animal'"),
        ("{}", "has no names"),
        ('{"a": 1}', r"what is below 'a' must be an object of names.*got 1"),
        ('{"a": [1]}', r"what is below 'a' must be an object of names.*got \[1\]"),
        ('"a"', "what is at the top must be an object"),
        ("{", "is not valid JSON"),
        ('{"a": [{"b": {}}]}', r"what is below 'a' must be an object of names.*got \[{'b': {}}\]"),
        ('{"a":' * 100_000, "is nested too deeply to be read"),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as raised:
        Hierarchy.from_file(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        Hierarchy.from_file(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be read"):
        Hierarchy.from_file(tmp_path)


def test_a_tree_that_is_too_deep_for_a_file(tmp_path):
    tree = {}
    for number in range(2000):
        tree = {f"level {number}": tree}
    with pytest.raises(ValueError, match="too deep to be written"):
        Hierarchy.from_tree(tree).to_json(tmp_path / "deep.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parents": (-1, 0)}, "a tree of 3 names needs a parent for each, got 2"),
        ({"parents": (-1, 2, 1)}, "number 1, 'b', must be a number below it.*got 2"),
        ({"parents": (-1, 0, 2)}, "number 2, 'c'"),
        ({"parents": (-1, 0, -2)}, "got -2"),
        ({"parents": (-1, 0, 0), "stop_below": 1.1}, r"stop_below must be in \[0, 1\], got 1.1"),
        ({"parents": (-1, 0, 0), "node_score": "sum"}, "node_score must be one of subtree, name, got 'sum'"),
    ],
)
def test_mistakes_in_code(options, message):
    with pytest.raises(ValueError, match=message):
        Hierarchy(vocabulary=Vocabulary.from_names(["a", "b", "c"]), **options)


def test_leaves_are_compared_with_a_list(tree):
    leaves = ["siamese cat", "tabby", "dog", "auto, car", "sky", "grass"]
    tree.check_leaves(Vocabulary.from_names(leaves))
    with pytest.raises(ValueError, match=r"leaves that are not among the 5 classes of 'custom': \[tabby\]"):
        tree.check_leaves(Vocabulary.from_names([name for name in leaves if name != "tabby"]))
    with pytest.raises(ValueError, match=r"lacks classes of 'custom'.*\[tabbi\].*Did you mean 'tabby'"):
        tree.check_leaves(Vocabulary.from_names([*leaves, "tabbi"]))


def by_hand(tree, row, node_score, stop_below):
    """The path of one mask and its probabilities, from nested dictionaries of names and scores."""
    score = dict(zip(NAMES, row.tolist(), strict=True))
    nested = {
        "thing": {"animal": {"cat": {"siamese cat": {}, "tabby": {}}, "dog": {}}, "car": {}},
        "stuff": {"sky": {}, "lawn": {}},
    }

    def value(name, below):
        return score[name] + (sum(value(*item) for item in below.items()) if node_score == "subtree" else 0)

    path, level = [], nested
    while level:
        values = {name: value(name, below) for name, below in level.items()}
        best = max(values, key=values.get)
        probability = values[best] / sum(values.values())
        if path and probability < stop_below:
            break
        path.append((best, probability))
        level = level[best]
    return path


@pytest.mark.parametrize("node_score", ["subtree", "name"])
@pytest.mark.parametrize("stop_below", [0.0, 0.6, 1.0])
def test_classification_level_by_level_is_that_by_hand(node_score, stop_below):
    tree = Hierarchy.from_tree(TREE, stop_below=stop_below, node_score=node_score)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(60, 1, generator=generator)
    scores = (2 * torch.randn(60, 10, generator=generator)).softmax(dim=1) * weight
    paths = tree.classify(scores)
    lengths = set()
    for row, path in zip(scores, paths, strict=True):
        expected = by_hand(tree, row, node_score, stop_below)
        assert [NAMES[level.class_id] for level in path] == [name for name, _ in expected]
        assert [level.probability for level in path] == pytest.approx([p for _, p in expected], rel=1e-5)
        lengths.add(len(path))
    assert len(lengths) > 1 if stop_below < 1 else lengths == {1}
    merged = tree.node_scores(scores, paths)
    for row, path, total in zip(merged, paths, weight[:, 0].tolist(), strict=True):
        assert row.nonzero().flatten().tolist() == [path[-1].class_id]
        assert float(row.max()) == pytest.approx(total * path[0].probability, rel=1e-5)


def test_the_probability_of_a_leaf_is_its_share_of_what_the_children_have():
    """Without scores at inner nodes the product along the path is the plain softmax over the leaves."""
    tree = Hierarchy.from_tree(TREE)
    scores = torch.zeros(1, 10)
    leaves = torch.tensor(tree.leaves)
    scores[0, leaves] = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.15, 0.15])
    (path,) = tree.classify(scores)
    assert [NAMES[level.class_id] for level in path] == ["thing", "animal", "cat", "siamese cat"]
    assert [level.probability for level in path] == pytest.approx([0.7, 6 / 7, 2 / 3, 3 / 4])
    assert math.prod(level.probability for level in path) == pytest.approx(0.3)


def test_no_score_no_name_and_no_deeper_than_there_are_scores(tree):
    scores = torch.zeros(2, 10)
    scores[1, 0] = 0.5
    empty, top = tree.classify(scores)
    assert empty == () and [tuple(level) for level in top] == [(0, 1.0)]
    assert tree.node_scores(scores, [empty, top]).nonzero().tolist() == [[1, 0]]
    assert tree.classify(torch.zeros(0, 10)) == []
    with pytest.raises(ValueError, match=r"scores Q×10.*\(2, 9\)"):
        tree.classify(torch.zeros(2, 9))


def test_twenty_thousand_names_four_levels_deep():
    names = {f"a{i}": {f"b{i} {j}": {f"c{i} {j} {k}": [f"d{i} {j} {k} {n}" for n in range(20)] for k in range(10)}
             for j in range(10)} for i in range(10)}  # fmt: skip
    tree = Hierarchy.from_tree(names)
    assert len(tree.vocabulary) == 21_110
    scores = torch.rand(8, 21_110, generator=torch.Generator().manual_seed(1))
    target = tree.vocabulary.display_names.index("d7 3 9 11")
    scores[:, target] += 1e5
    for path in tree.classify(scores):
        assert [level.class_id for level in path] == list(tree.path_to(target))
