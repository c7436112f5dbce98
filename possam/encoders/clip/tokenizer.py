"""Texts to token ids: open_clip's tokenizers, loaded when first needed, and the refusal of texts that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property

from torch import Tensor

# texts, context length → N×context length token ids (int64), padded on the right, cut at the context length
Tokenizer = Callable[[list[str], int], Tensor]


class OpenClipTokenizer:
    """The tokenizer of an open_clip model. SigLIP's and some others come from Hugging Face, so it is loaded only when
    a text is to be read: neither image features nor text embeddings found on disk need it."""

    def __init__(self, name: str) -> None:
        import open_clip

        self._name = name
        self._config = open_clip.get_model_config(name)["text_cfg"]

    @property
    def identity(self) -> str:
        """What the ids depend on, as text."""
        keys = ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode")
        return json.dumps({key: self._config[key] for key in keys if key in self._config}, sort_keys=True)

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        return self._tokenizer(texts, context_length)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        import open_clip

        repository = self._config.get("hf_tokenizer_name")
        if not repository:
            return open_clip.get_tokenizer(self._name)
        try:
            return open_clip.get_tokenizer(self._name)
        except ImportError as error:
            raise ValueError(
                f"CLIP {self._name} reads text with a tokenizer of Hugging Face, which needs a package more "
                f"({error}): `pip install transformers`"
            ) from error
        except (OSError, ValueError, RuntimeError) as error:  # no connection and nothing in Hugging Face's cache
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"cannot load the tokenizer of CLIP {self._name}, the repository {repository} of Hugging Face "
                f"({reason}). On a machine with a connection run `hf download {repository} --exclude '*.bin' "
                "'*.safetensors'` and copy its cache (~/.cache/huggingface, or $HF_HOME) here"
            ) from error


def tokenize(tokenizer: Tokenizer, texts: list[str], context_length: int) -> Tensor:
    """N texts → N×context_length ids.

    Raises:
        ValueError: a text does not fit; a tokenizer would cut it without a word, and often the name with it.
    """
    # One position more than the context, which only padding may occupy. Tokenizers that pad with their end mark
    # (SigLIP's) put one there when they cut, too: so the position before it must be padding or an end mark as well.
    tokens = tokenizer(["", *texts], context_length + 1)
    empty, rows = tokens[0], tokens[1:]
    padding = empty[-1]
    marks = empty[empty != padding]
    end = marks[-1] if len(marks) else padding
    last = rows[:, -2]
    too_long = ((rows[:, -1] != padding) | ((last != padding) & (last != end))).nonzero().flatten().tolist()
    if too_long:
        text = texts[too_long[0]]
        shown = text if len(text) <= 80 else f"{text[:60]} … {text[-17:]}"
        raise ValueError(
            f"text is longer than CLIP's context of {context_length} tokens, so use a shorter name: {shown!r}"
            + (f" (and {len(too_long) - 1} more texts)" if len(too_long) > 1 else "")
        )
    return rows[:, :-1]
