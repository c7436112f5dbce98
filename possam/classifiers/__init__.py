"""From masks and features to class scores: LDP, cosine classification, and the ensembles of LDP and CLIP."""

from .clip_image_embedding import IMAGE_EMBEDDERS, ImageEmbedder
from .clip_pooling import ClipPooling
from .cosine import CosineClassifier, FixedCosineClassifier
from .ensembles import ENSEMBLE_REGISTRY, Ensemble, build_ensemble, ensemble_constants
from .inputs import ClassificationInputs
from .local_discriminative_pooling import LocalDiscriminativePooling, check_streams
from .mask_pooled_embedding import MaskPooledEmbedding
from .query_embedding import QueryEmbedding, QueryOnlyEmbedding
from .roi_embedding import RoIEmbedding
from .top_classes import ClassificationParts, TopClasses, streamed_top_k, top_classes

__all__ = [
    "ENSEMBLE_REGISTRY",
    "IMAGE_EMBEDDERS",
    "ClipPooling",
    "CosineClassifier",
    "Ensemble",
    "FixedCosineClassifier",
    "ImageEmbedder",
    "LocalDiscriminativePooling",
    "ClassificationInputs",
    "ClassificationParts",
    "MaskPooledEmbedding",
    "RoIEmbedding",
    "QueryEmbedding",
    "QueryOnlyEmbedding",
    "TopClasses",
    "build_ensemble",
    "ensemble_constants",
    "check_streams",
    "streamed_top_k",
    "top_classes",
]
