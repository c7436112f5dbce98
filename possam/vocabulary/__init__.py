"""Classes and their names, prompt templates, and the store of text embeddings."""

from .hierarchy import Hierarchy, Level
from .manifests import Manifest, manifest_names
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
    "Manifest",
    "TextBank",
    "TextEncoder",
    "Vocabulary",
    "fold_name",
    "manifest_names",
    "table_names",
]
