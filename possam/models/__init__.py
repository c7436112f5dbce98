"""The systems, each in one file, over a common base and a registry."""

from possam.models.base import OpenVocabularySegmenter
from possam.models.fcclip import FcClip
from possam.models.opsnet import OPSNet
from possam.models.ovsam import OVSAM
from possam.models.ovsam_distillation import OVSAMDistillation
from possam.models.possam import PosSAM
from possam.models.prediction import MaskProposals, Prediction
from possam.models.prompted import PromptedSegmenter
from possam.models.sam_clip import SamClip
from possam.models.spec import ModelSpec, model_spec, model_specs
from possam.models.test_time_augmentation import TestTimeAugmentation
from possam.models.top_names import top_names

__all__ = [
    "OVSAM",
    "FcClip",
    "ModelSpec",
    "OVSAMDistillation",
    "OPSNet",
    "OpenVocabularySegmenter",
    "MaskProposals",
    "PosSAM",
    "Prediction",
    "PromptedSegmenter",
    "SamClip",
    "TestTimeAugmentation",
    "model_spec",
    "model_specs",
    "top_names",
]
