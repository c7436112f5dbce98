"""Trees of names from WordNet, by nltk, which is optional."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .hierarchy import Hierarchy
from .names import clean_name
from .vocabulary import Category, Vocabulary, fold_name
from .words import is_stuff_word

__all__ = ["hierarchy_from_wordnet"]

_OFFSET = re.compile(r"n(\d{8})")
_SYNSET = re.compile(r".+\.n\.\d+")


def hierarchy_from_wordnet(names: Sequence[str], *, stop_below: float = 0.0) -> Hierarchy:
    """Build the tree of WordNet's hypernyms above some names.

    Of several hypernyms of a synset the first is taken, so that the result is a tree. A synset that is not asked for
    and has a single synset below it is left out, since it would decide nothing. Names are WordNet's lemmas; one that
    another node has already is dropped, and a node whose lemmas are all taken is told apart by its parent:
    "crane (wading bird)".

    Args:
        names: words, of which the first noun sense is meant ("siamese cat"), synsets ("cat.n.01"), or offsets as
            ImageNet has them ("n02123597"). stop_below: of `Hierarchy`.

    Raises:
        ImportError: nltk is not installed.
        FileNotFoundError: WordNet's files are not downloaded.
        ValueError: no name, one that WordNet does not have, or two that mean the same.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"expected a list of names for WordNet, got {names!r}; give at least one.")
    wordnet = _load_wordnet()
    wanted: dict[Any, str] = {}
    for name in names:
        synset = _find(wordnet, name)
        if synset in wanted:
            raise ValueError(f"{wanted[synset]!r} and {name!r} are both {synset.name()} of WordNet; remove one.")
        wanted[synset] = name
    below: dict[Any, list[Any]] = {}
    seen = set()
    for synset in wanted:
        while synset not in seen:
            seen.add(synset)
            above = synset.hypernyms() or synset.instance_hypernyms()
            parent = above[0] if above else None
            below.setdefault(parent, []).append(synset)
            if parent is None:
                break
            synset = parent
    return _build(below, wanted, stop_below)


def _build(below: dict[Any, list[Any]], wanted: dict[Any, str], stop_below: float) -> Hierarchy:
    categories: list[Category] = []
    parents: list[int] = []
    taken: set[str] = set()
    pending = [(synset, -1) for synset in reversed(below[None])]
    while pending:
        synset, parent = pending.pop()
        while synset not in wanted and len(below[synset]) == 1:
            synset = below[synset][0]
        names = [clean_name(lemma.replace("_", " ")) for lemma in synset.lemma_names()]
        free = tuple({fold_name(name): name for name in reversed(names) if fold_name(name) not in taken}.values())[::-1]
        if not free:
            context = categories[parent].names[0] if parent >= 0 else synset.name()
            free = (f"{names[0]} ({context})",)
            if fold_name(free[0]) in taken:
                free = (f"{names[0]} ({synset.name()})",)
        taken |= {fold_name(name) for name in free}
        number = len(categories)
        categories.append(
            Category(names=free, isthing=not is_stuff_word(free[0]), dataset_id=number, dataset_name=synset.name())
        )
        parents.append(parent)
        pending += [(child, number) for child in reversed(below.get(synset, []))]
    vocabulary = Vocabulary(name="wordnet", categories=tuple(categories), source="WordNet, by nltk")
    return Hierarchy(vocabulary=vocabulary, parents=tuple(parents), stop_below=stop_below)


def _load_wordnet() -> Any:
    try:
        from nltk.corpus import wordnet
    except ImportError as error:
        raise ImportError("a tree from WordNet needs the package nltk; run: pip install nltk") from error
    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise FileNotFoundError("nltk has no WordNet here; run: python -m nltk.downloader wordnet") from error
    return wordnet


def _find(wordnet: Any, name: str) -> Any:
    from nltk.corpus.reader.wordnet import WordNetError

    problem = f"WordNet has no noun {name!r}; give a word, a synset ('cat.n.01') or an offset ('n02121620')."
    try:
        if match := _OFFSET.fullmatch(name):
            synset = wordnet.synset_from_pos_and_offset("n", int(match[1]))
        elif _SYNSET.fullmatch(name):
            synset = wordnet.synset(name)
        else:
            synset = next(iter(wordnet.synsets(name.strip().replace(" ", "_"), pos="n")), None)
    except WordNetError as error:
        raise ValueError(problem) from error
    if synset is None:  # nltk's answer for an offset in the middle of an entry
        raise ValueError(problem)
    return synset
