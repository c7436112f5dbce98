"""HTML that is always closed and always escaped: elements are made by calls, and text is text until it is one."""

from __future__ import annotations

import html

__all__ = ["Markup", "element", "join"]

_EMPTY = {"br", "circle", "col", "img", "line", "meta", "path", "polyline", "rect"}
_SVG_EMPTY = {"circle", "line", "path", "polyline", "rect"}


class Markup(str):
    """HTML that is to be taken as it is; any other string is escaped."""


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element with its children, which are escaped unless they are Markup; None among them is left out.

    Attributes are written with "-" for "_", without a "_" at the end (``class_``); those that are None or False are
    left out, and True stands for the bare name.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY:
        assert not children, f"<{name}> has no children"
        return Markup(f"<{name}{written}/>" if name in _SVG_EMPTY else f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: object) -> Markup:
    """Parts one after the other, escaped unless they are Markup."""
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(str(part)) for part in parts if part is not None)
    )


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
