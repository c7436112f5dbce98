"""The tokenizer of the miniature CLIPs (mini.py): a list of words."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from possam.utils.messages import few

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 24
WORDS_FILE = Path(__file__).parent / "mini_words.json"


@cache
def _words() -> tuple[str, ...]:
    return tuple(json.loads(WORDS_FILE.read_text()))


def split_words(text: str) -> list[str]:
    """Lower-case words; punctuation separates them and is dropped."""
    return re.findall(r"[a-z0-9']+", text.lower())


class WordTokenizer:
    """Words to ids: 0 padding, 1 start, 2 unknown, then the words of the miniature world, and last the end mark.

    The end mark has the highest id of all, because open_clip reads a text's embedding at its largest id.
    """

    PADDING, START, UNKNOWN = 0, 1, 2

    def __init__(self) -> None:
        self._ids = {word: index for index, word in enumerate(_words(), start=3)}
        self.end = 3 + len(self._ids)
        self.vocab_size = self.end + 1
        self._reported: set[str] = set()

    def __call__(self, texts: str | list[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
        """N texts → N×context_length int64 ids, padded on the right; a longer text is cut and keeps its end mark.

        A word outside the miniature world becomes the unknown id, with a warning where it is new.
        """
        texts = [texts] if isinstance(texts, str) else texts
        self._report(set(self.unknown_words(texts)) - self._reported)
        rows = torch.full((len(texts), context_length), self.PADDING)
        for row, text in zip(rows, texts, strict=True):
            words = [self._ids.get(word, self.UNKNOWN) for word in split_words(text)]
            ids = [self.START, *words][: context_length - 1] + [self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """Words of texts that become the unknown id, each once, in their order."""
        words = dict.fromkeys(word for text in texts for word in split_words(text))
        return [word for word in words if word not in self._ids]

    def _report(self, unknown: set[str]) -> None:
        self._reported |= unknown
        if unknown:
            which = f"word {min(unknown)!r}" if len(unknown) == 1 else f"words {few(sorted(unknown))}"
            logger.warning("the miniature CLIP does not know the %s; it reads what it does not know as unknown", which)
