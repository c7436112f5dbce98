"""Everything the miniature world can draw, and every word it can be called by.

This is the only place that names things: the class tables, the palettes of scenes, the captions for CLIP
pre-training and a word tokenizer are all derived from it. The first name of an entry is its canonical one,
the others are synonyms; a word belongs to one entry only, so a name can always be read back (`kind_of`).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid", "uniform"),
    "striped": ("striped", "banded", "lined"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "chequered", "checked"),
    "gridded": ("gridded", "latticed", "meshed"),
    "mottled": ("mottled", "blotchy"),
    "framed": ("framed", "rimmed", "edged"),
    "halved": ("halved", "split"),
}
SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk"),
    "ring": ("ring", "hoop", "annulus"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "pentagram"),
    "cross": ("cross", "plus"),
    "heart": ("heart", "valentine"),
    "arrow": ("arrow", "pointer"),
    "crescent": ("crescent", "moon"),
    "flower": ("flower", "blossom", "bloom"),
    "bar": ("bar", "rod", "stick"),
    "bolt": ("bolt", "lightning"),
    "gear": ("gear", "cog", "cogwheel"),
    "drop": ("drop", "teardrop", "droplet"),
    "elbow": ("elbow", "angle"),
}
TEXTURES: dict[str, tuple[str, ...]] = {
    "grass": ("grass", "lawn", "turf"),
    "water": ("water", "sea", "lake"),
    "sand": ("sand", "beach", "desert"),
    "brick": ("brick", "masonry"),
    "sky": ("sky", "clouds"),
    "wood": ("wood", "planks", "timber"),
    "gravel": ("gravel", "pebbles", "cobbles"),
    "snow": ("snow", "frost"),
    "tile": ("tile", "mosaic"),
    "foliage": ("foliage", "leaves", "hedge"),
    "lava": ("lava", "magma"),
    "carpet": ("carpet", "rug", "weave"),
    "asphalt": ("asphalt", "tarmac", "road"),
}


@dataclass(frozen=True, order=True)
class ThingKind:
    """A countable object: an attribute (a key of `ATTRIBUTES`) on a shape (a key of `SHAPES`)."""

    attribute: str
    shape: str

    isthing = True

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the canonical one first: `("striped star", "striped pentagram", ...)`."""
        pairs = itertools.product(ATTRIBUTES[self.attribute], SHAPES[self.shape])
        return tuple(f"{attribute} {shape}" for attribute, shape in pairs)


@dataclass(frozen=True, order=True)
class StuffKind:
    """An uncountable surface: a texture (a key of `TEXTURES`)."""

    texture: str

    isthing = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the canonical one first: `("grass", "lawn", "turf")`."""
        return TEXTURES[self.texture]


Kind = ThingKind | StuffKind


@dataclass(frozen=True)
class Palette:
    """What a scene may be drawn from. `kinds[i]` is class i of the vocabulary the palette was made for."""

    kinds: tuple[Kind, ...]

    def __post_init__(self) -> None:
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("a palette lists each kind once, but two of its names mean the same kind")
        if not self.things or len(self.stuff) < 2:
            raise ValueError(
                "a palette needs at least 1 thing and 2 kinds of stuff, "
                f"got {len(self.things)} things and {len(self.stuff)} kinds of stuff"
            )

    @cached_property
    def things(self) -> tuple[ThingKind, ...]:
        return tuple(kind for kind in self.kinds if isinstance(kind, ThingKind))

    @cached_property
    def stuff(self) -> tuple[StuffKind, ...]:
        return tuple(kind for kind in self.kinds if isinstance(kind, StuffKind))

    @cached_property
    def class_of(self) -> dict[Kind, int]:
        """Kind → its position in `kinds`."""
        return {kind: index for index, kind in enumerate(self.kinds)}


EVERYTHING = Palette(
    tuple(ThingKind(attribute, shape) for attribute in ATTRIBUTES for shape in SHAPES)
    + tuple(StuffKind(texture) for texture in TEXTURES)
)


@lru_cache(maxsize=1)
def _kinds_by_name() -> dict[str, Kind]:
    return {name: kind for kind in EVERYTHING.kinds for name in kind.names}


def kind_of(name: str) -> Kind:
    """The kind that a name stands for: `kind_of("banded hoop") == ThingKind("striped", "ring")`.

    Raises:
        ValueError: no drawable kind has this name.
    """
    kinds = _kinds_by_name()
    try:
        return kinds[name]
    except KeyError:
        near = difflib.get_close_matches(name, kinds, n=3)
        raise ValueError(
            f"the miniature world cannot draw {name!r}"
            + (
                f"; did you mean {', '.join(map(repr, near))}?"
                if near
                else "; see possam/data/miniature/lexicon.py"
            )
        ) from None


def palette_of(names: Iterable[str]) -> Palette:
    """The palette of a list of class names, in their order; ValueError for a name nobody can draw."""
    return Palette(tuple(kind_of(name) for name in names))


def words() -> tuple[str, ...]:
    """Every word of every name, sorted and unique: what a word tokenizer for this world must know."""
    entries = (*ATTRIBUTES.values(), *SHAPES.values(), *TEXTURES.values())
    return tuple(sorted({word for names in entries for name in names for word in name.split()}))
