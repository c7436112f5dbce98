"""Sentences into which a class name is set before a text encoder reads it (METHOD.md 1.7)."""

from __future__ import annotations

import string
from collections.abc import Sequence

# The list that ViLD, ODISE and FC-CLIP share. Text embeddings depend on every character, so the missing full
# stops and the "a" before vowels are kept as those systems have them.
VILD_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)

_VOWELS = "aeiou"
# Spelling and sound disagree for these beginnings; the few that class names have, not a phonology.
_CONSONANT_SOUNDS = ("uni", "use", "utensil", "eu", "one")
_VOWEL_SOUNDS = ("hour", "heir", "honest")


def article(name: str) -> str:
    """Return the indefinite article of a name: "a" or "an"."""
    word = name.lstrip().casefold()
    if word.startswith(_VOWEL_SOUNDS):
        return "an"
    return "an" if word[:1] in _VOWELS and word[:1] and not word.startswith(_CONSONANT_SOUNDS) else "a"


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates as a tuple; each must have exactly one ``{}`` and besides it only ``{article}``.

    Raises:
        ValueError: no template at all, or one with other fields; the message shows it.
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(
            f"expected a non-empty list of templates such as 'a photo of a {{}}.', got {templates!r}"
        )
    for template in templates:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except (ValueError, TypeError) as error:
            raise ValueError(f"template {template!r} is not a format string: {error}") from error
        if fields.count("") != 1 or any(field not in ("", "article") for field in fields):
            raise ValueError(
                f"template {template!r} must have exactly one {{}} for the name, "
                "and no other field than {article}"
            )
    return tuple(templates)


def fill_template(template: str, name: str) -> str:
    """Set a name, and where asked for its article, into a template."""
    return template.format(name, article=article(name))
