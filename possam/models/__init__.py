"""The systems, one file each, registered as meta-architectures."""

from possam.models.possam import PosSAM, Prediction

__all__ = ["PosSAM", "Prediction"]
