"""The systems: wiring of encoders, decoders and classifiers, registered as meta-architectures."""

from possam.models.config import add_possam_config
from possam.models.parts import DECODERS, EMBEDDINGS, PYRAMIDS
from possam.models.possam import PosSAM
from possam.models.prediction import Perception, Prediction
from possam.models.test_time_augmentation import TestTimeAugmentation

__all__ = [
    "DECODERS",
    "EMBEDDINGS",
    "PYRAMIDS",
    "Perception",
    "PosSAM",
    "Prediction",
    "TestTimeAugmentation",
    "add_possam_config",
]
