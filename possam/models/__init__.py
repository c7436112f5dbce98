"""The systems: wiring of encoders, decoders and classifiers, registered as meta-architectures."""

from possam.models.config import add_possam_config
from possam.models.possam import PosSAM, Prediction

__all__ = ["PosSAM", "Prediction", "add_possam_config"]
