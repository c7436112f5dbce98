"""Post-processors that turn LDP's and CLIP's opinions of a mask into class scores (METHOD.md 1.9).

One file an ensemble; importing this package registers them all.
"""

from .base import ENSEMBLE_REGISTRY, Ensemble, PosteriorEnsemble, build_ensemble, ensemble_constants, register_ensemble
from .clip import ClipOnly
from .embedding_sum import EmbeddingSum
from .geometric import Geometric
from .ldp import LdpOnly
from .mase import MaskAwareSelectiveEnsemble
from .modulation import EmbeddingModulation, class_similarity
from .uniform import Uniform

__all__ = [
    "ENSEMBLE_REGISTRY",
    "ClipOnly",
    "EmbeddingModulation",
    "EmbeddingSum",
    "Ensemble",
    "Geometric",
    "LdpOnly",
    "MaskAwareSelectiveEnsemble",
    "PosteriorEnsemble",
    "Uniform",
    "build_ensemble",
    "class_similarity",
    "ensemble_constants",
    "register_ensemble",
]
