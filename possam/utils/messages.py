"""Parts of error messages that several packages need."""

import errno
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


def did_you_mean(word: object, valid: Iterable[str]) -> str:
    """A sentence, with a blank before it, that names the valid word closest to a misspelt one; "" if none is close."""
    close = get_close_matches(str(word), list(valid), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def describe_os_error(error: OSError) -> str:
    """One sentence: the file, what the system says of it, and what to do."""
    if error.filename is None:
        return str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "free some space or write to another disk" if full else "check the path and its rights"
    return f"{error.filename}: {error.strerror}; {advice}."


def one_line(text: str) -> str:
    """The text with characters that a terminal does not print, such as a line break in a file's name, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def few(values: Sequence[Any], limit: int = 8) -> str:
    """The first of some values and how many there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    return f"[{shown}{f', … {len(values)} in all' if len(values) > limit else ''}]"
