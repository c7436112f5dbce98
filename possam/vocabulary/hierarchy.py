"""Names in a tree, and the classification of masks level by level (METHOD.md 2.11).

Shapes: Q masks, K nodes of the tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from possam.utils.files import full_path, read_text, write_json
from possam.utils.messages import did_you_mean, few

from .vocabulary import Category, Vocabulary, fold_name
from .words import is_stuff_word, read_entry

__all__ = ["Hierarchy", "Level"]

_TOP = -1  # parent of the nodes at the top
_MARKS = {"thing": True, "things": True, "stuff": False}
NODE_SCORES = ("subtree", "name")


class Level(NamedTuple):
    """A node on a mask's path, a class of the vocabulary, and its probability among its siblings, in (0, 1]."""

    class_id: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A tree of names, such as thing → animal → cat → siamese cat.

    It may be given to a `Predictor` in place of a vocabulary.

    Args:
        vocabulary: a class a node, inner nodes too; parents come before their children.
        parents: class id of each node's parent, −1 for the nodes at the top.
        stop_below: in [0, 1]. A path ends above a child that is less probable than this; the top level is always named.
        node_score: what a node's score is, "subtree" or "name" (`classify`).

    Raises:
        ValueError: `parents` is no tree of the vocabulary's classes, or an option is out of range.
    """

    vocabulary: Vocabulary
    parents: tuple[int, ...]
    stop_below: float = 0.0
    node_score: str = "subtree"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(self.parents))
        names = self.vocabulary.display_names
        if len(self.parents) != len(names):
            raise ValueError(f"a tree of {len(names)} names needs a parent for each, got {len(self.parents)} parents")
        for node, parent in enumerate(self.parents):
            if not _TOP <= parent < node:
                raise ValueError(
                    f"the parent of name number {node}, {names[node]!r}, must be a number below it, or −1 at the top, "
                    f"got {parent}; parents come before their children, so that no name is below itself"
                )
        if not 0 <= self.stop_below <= 1:
            raise ValueError(f"stop_below must be in [0, 1], got {self.stop_below}")
        if self.node_score not in NODE_SCORES:
            raise ValueError(f"node_score must be one of {', '.join(NODE_SCORES)}, got {self.node_score!r}")

    @classmethod
    def from_file(cls, path: str | Path, *, stop_below: float = 0.0, node_score: str = "subtree") -> Hierarchy:
        """Read a tree from a JSON file of nested objects, as `from_tree` takes them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not JSON, or no tree of names; the message says where.
        """
        path = full_path(path)
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} does not exist; give the path of a tree of names in JSON.") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}); give the path of a .json file.") from error
        return cls.from_json(text, name=path.stem, source=str(path), stop_below=stop_below, node_score=node_score)

    @classmethod
    def from_json(
        cls,
        text: str,
        *,
        name: str = "tree",
        source: str = "the tree",
        stop_below: float = 0.0,
        node_score: str = "subtree",
    ) -> Hierarchy:
        """Read a tree from the text of a JSON file, as `from_file`.

        Args:
            name, source, stop_below, node_score: as `from_tree`.

        Raises:
            ValueError: as `from_file`.
        """
        try:
            tree = json.loads(text, object_pairs_hook=_Pairs)
        except RecursionError as error:
            raise ValueError(f"{source} is nested too deeply to be read; make the tree flatter.") from error
        except ValueError as error:
            raise ValueError(f"{source} is not valid JSON ({error}); correct it, or export it again.") from error
        return cls.from_tree(tree, name=name, source=source, stop_below=stop_below, node_score=node_score)

    @classmethod
    def from_tree(
        cls,
        tree: Any,
        *,
        name: str = "tree",
        source: str = "the tree",
        stop_below: float = 0.0,
        node_score: str = "subtree",
    ) -> Hierarchy:
        """Build a hierarchy from nested mappings, ``{"thing": {"animal": {"cat": {}, "dog": {}}}, "sky: stuff": {}}``.

        A key is a node and its value the nodes below: a mapping, empty for a leaf, or a list of names for leaves alone.
        A key may have synonyms and a mark as an entry of `possam.vocabulary.words.read_words`: "sofa|couch",
        "lawn: stuff". A mark holds for all nodes below as well, and the names "thing" and "stuff" are marks
        themselves; elsewhere a name is stuff if COCO or ADE20K has it as stuff.

        Args:
            name: of the vocabulary. source: where the tree comes from, for messages. The rest: of `Hierarchy`.

        Raises:
            ValueError: no name, an empty or repeated one, a name below two others or below itself, or a value that is
                neither a mapping nor a list of names.
        """
        builder = _Builder(source)
        builder.add_all(tree)
        if not builder.categories:
            raise ValueError(f'{source} has no names; give at least one, such as {{"animal": {{"cat": {{}}}}}}.')
        vocabulary = Vocabulary(name=name, categories=tuple(builder.categories))
        return cls(
            vocabulary=vocabulary, parents=tuple(builder.parents), stop_below=stop_below, node_score=node_score
        )

    def to_json(self, path: str | Path) -> None:
        """Write the file that `from_file` reads back as an equal tree (names with quotation marks aside).

        Raises:
            ValueError: the tree is too deep for JSON.
        """
        tree: dict[str, Any] = {}
        below: list[dict[str, Any]] = []
        for node, category in enumerate(self.vocabulary.categories):
            parent = self.parents[node]
            names = "|".join(f'"{name}"' if set(name) & set(",|:") else name for name in category.names)
            if parent == _TOP or self.vocabulary.isthing[parent] != category.isthing:
                names += ": thing" if category.isthing else ": stuff"
            own = below[parent] if parent != _TOP else tree
            own[names] = {}
            below.append(own[names])
        try:
            write_json(path, tree)
        except RecursionError as error:
            raise ValueError(f"the tree is too deep to be written to {path}; make it flatter.") from error

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """The class ids below each inner node, and below −1 those at the top."""
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            found.setdefault(parent, []).append(node)
        return {parent: tuple(nodes) for parent, nodes in found.items()}

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The class ids with nothing below them."""
        return tuple(node for node in range(len(self.parents)) if node not in self.children)

    def path_to(self, class_id: int) -> tuple[int, ...]:
        """The class ids from the top to a node, the node included."""
        path = [class_id]
        while self.parents[path[-1]] != _TOP:
            path.append(self.parents[path[-1]])
        return tuple(reversed(path))

    def check_leaves(self, vocabulary: Vocabulary) -> None:
        """Check the tree against a list of classes: its leaves have to be in it, and the list's classes in the tree.

        Raises:
            ValueError: a leaf has none of the list's names, or a class of the list is nowhere in the tree.
        """
        leaves = [self.vocabulary.categories[leaf] for leaf in self.leaves]
        if extra := _not_in(vocabulary, leaves):
            raise ValueError(
                f"the tree has leaves that are not among the {len(vocabulary)} classes of {vocabulary.name!r}: "
                f"{few(extra)}; correct them, or add them to the classes.{did_you_mean(extra[0], vocabulary.names)}"
            )
        if absent := _not_in(self.vocabulary, vocabulary.categories):
            raise ValueError(
                f"the tree lacks classes of {vocabulary.name!r}, which could never be found: {few(absent)}; add them "
                f"to the tree, or take them out of the classes.{did_you_mean(absent[0], self.vocabulary.names)}"
            )

    def classify(self, scores: Tensor) -> list[tuple[Level, ...]]:
        """Classify masks from the top of the tree down.

        At each level the mask takes the best child c of the node it has come to. The child's probability is its score
        among its siblings', p(c) = T_c / Σ_b T_b, b over all children of that node. With the scores S of the ensemble,
        which are a softmax over the names of all nodes times a factor of the mask, the score of a node is

        - "subtree": T_c = Σ S over c and all nodes below it. So T is the probability of anything in the subtree, and
          abstract names such as "thing" need not look like anything;
        - "name": T_c = S_c, its own name's alone: p is the softmax among the children's own logits.

        The path ends at a leaf, or above a child with p(c) < `stop_below` or T_c = 0; at the top the latter alone.

        Args:
            scores: S, Q×K float in [0, 1] of any ensemble, over all nodes of the tree.

        Returns:
            A path a mask, from the top down; empty where all scores at the top are 0. The product of a path's
            probabilities is that of its last node.

        Raises:
            ValueError: `scores` has another number of classes than the tree has nodes.
        """
        if scores.dim() != 2 or scores.shape[1] != len(self.parents):
            raise ValueError(f"expected scores Q×{len(self.parents)}, a column a node, got {tuple(scores.shape)}")
        scores = self._sums(scores.float()) if self.node_score == "subtree" else scores.float()
        paths: list[list[Level]] = [[] for _ in scores]
        pending = [(_TOP, torch.arange(len(scores), device=scores.device))]
        while pending:
            node, masks = pending.pop()
            if node not in self.children or len(masks) == 0:
                continue
            children = torch.tensor(self.children[node], device=scores.device)
            siblings = scores[masks[:, None], children]
            best, place = siblings.max(dim=1)
            probability = best / siblings.sum(dim=1)
            goes_on = best > 0
            if node != _TOP:
                goes_on &= probability >= self.stop_below
            masks, chosen, probability = masks[goes_on], children[place[goes_on]], probability[goes_on]
            for mask, child, p in zip(masks.tolist(), chosen.tolist(), probability.tolist(), strict=True):
                paths[mask].append(Level(child, p))
            pending += [(child, masks[chosen == child]) for child in chosen.unique().tolist()]
        return [tuple(path) for path in paths]

    def node_scores(self, scores: Tensor, paths: list[tuple[Level, ...]]) -> Tensor:
        """Scores with which masks are merged: Q×K, each row with at most one that is not 0, at the end of its path.

        It is the mask's whole score Σ_k S_k, (1 − v)·s^η in METHOD.md 1.9, times the probability of its path's first
        level: masks compete by what they are most coarsely, however deep they are named.

        Args:
            scores: as of `classify`. paths: what it returned.
        """
        result = torch.zeros_like(scores)
        whole = scores.sum(dim=1)
        for mask, path in enumerate(paths):
            if path:
                result[mask, path[-1].class_id] = whole[mask] * path[0].probability
        return result

    def _sums(self, scores: Tensor) -> Tensor:
        """Sums over each node and all nodes below it: Q×K."""
        sums = scores.clone()
        for nodes in reversed(self._levels):
            parents = torch.tensor([self.parents[node] for node in nodes], device=scores.device)
            sums.index_add_(1, parents, sums[:, nodes])
        return sums

    @cached_property
    def _levels(self) -> list[list[int]]:
        """The nodes below the top by their distance from it."""
        depth: list[int] = []
        levels: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            depth.append(0 if parent == _TOP else depth[parent] + 1)
            levels.setdefault(depth[-1], []).append(node)
        return [levels[number] for number in sorted(levels) if number]


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object, in which a key may come twice."""

    def __repr__(self) -> str:
        return repr(dict(self))


class _Builder:
    """Makes the nodes of a tree, parents first, and checks them."""

    def __init__(self, source: str) -> None:
        self.categories: list[Category] = []
        self.parents: list[int] = []
        self._source = source
        self._owner: dict[str, int] = {}  # of folded names
        self._marks: list[bool | None] = []  # of nodes, their own or inherited

    def add_all(self, tree: Any) -> None:
        """Add all nodes, depth first."""
        stack = [_entries(tree, self._source, "at the top")]
        parents = [_TOP]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                parents.pop()
                continue
            self._add(entry[0], parents[-1])
            parents.append(len(self.parents) - 1)
            stack.append(_entries(entry[1], self._source, f"below {self.categories[-1].names[0]!r}"))

    def _add(self, text: Any, parent: int) -> None:
        number = len(self.categories)
        try:
            names, mark = read_entry(text, number)
            mark = _MARKS.get(fold_name(names[0])) if mark is None else mark
            mark = self._marks[parent] if mark is None and parent != _TOP else mark
            isthing = not is_stuff_word(names[0]) if mark is None else mark
            category = Category(names=names, isthing=isthing, dataset_id=number)
        except ValueError as error:
            raise ValueError(f"{self._source}: {error}") from error
        for name in category.names:
            if fold_name(name) in self._owner:
                raise ValueError(f"{self._source} {self._conflict(name, parent)}")
        self._owner |= {fold_name(name): number for name in category.names}
        self.categories.append(category)
        self.parents.append(parent)
        self._marks.append(mark)

    def _conflict(self, name: str, parent: int) -> str:
        """What is wrong with a name that is in the tree already, and now comes below `parent`."""
        other = self._owner[fold_name(name)]
        above = [parent]
        while above[-1] != _TOP:
            above.append(self.parents[above[-1]])
        if other in above:
            cycle = [*(self._said(node) for node in reversed(above[: above.index(other) + 1])), repr(name)]
            return f"has a cycle: {' → '.join(cycle)}; a name cannot be below itself, so remove or rename one."
        if self.parents[other] == parent:
            return f"has the name {name!r} twice below {self._said(parent)}; join the two, or remove one."
        return (
            f"has the name {name!r} below two parents, {self._said(self.parents[other])} and {self._said(parent)}; "
            "a name has one place in the tree, so remove or rename one."
        )

    def _said(self, node: int) -> str:
        return "the top" if node == _TOP else repr(self.categories[node].names[0])


def _not_in(vocabulary: Vocabulary, categories: Iterable[Category]) -> list[str]:
    """Display names of the classes that share no name with a vocabulary."""
    known = {fold_name(name) for name in vocabulary.names}
    return [one.names[0] for one in categories if known.isdisjoint(map(fold_name, one.names))]


def _entries(value: Any, source: str, where: str) -> Iterator[tuple[Any, Any]]:
    """The nodes of one level as pairs of text and what is below."""
    if isinstance(value, _Pairs):
        return iter(value)
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return iter([(name, {}) for name in value])
    raise ValueError(
        f"{source}: what is {where} must be an object of names, {{}} for none, or a list of names, got {value!r:.80}."
    )
