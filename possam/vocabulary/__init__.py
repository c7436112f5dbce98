"""Classes and their names, prompt templates, and the store of text embeddings."""

from .hierarchy import Hierarchy, Level
from .overlaps import Overlap, overlap_names
from .tables import table_names
from .templates import VILD_TEMPLATES
from .text_bank import ClassEmbeddings, TextBank, TextEncoder
from .vocabulary import Category, Vocabulary, fold_name

__all__ = [
    "VILD_TEMPLATES",
    "Category",
    "ClassEmbeddings",
    "Hierarchy",
    "Level",
    "Overlap",
    "TextBank",
    "TextEncoder",
    "Vocabulary",
    "fold_name",
    "overlap_names",
    "table_names",
]
