"""The settings of the models: this project's keys, with the published model's values, beside Detectron2's."""

from __future__ import annotations

import inspect

from possam.classifiers.ensembles import ENSEMBLE_REGISTRY
from possam.d2.config import CfgNode


def add_possam_config(cfg: CfgNode) -> None:
    """Add this project's keys, with the published model's values, to a Detectron2 configuration, in place."""
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.IMAGE_SIZE = 1024  # pixels: side of the training crop and longest side at test time
    # At test time "longest_edge": the longer side to IMAGE_SIZE; "shortest_edge": the shorter side to MIN_SIZE_TEST, or
    # less where the longer side would exceed MAX_SIZE_TEST, which needs PAD_TO_SQUARE False.
    cfg.INPUT.RESIZE_TEST = "longest_edge"
    cfg.INPUT.PAD_TO_SQUARE = True  # pad to IMAGE_SIZE x IMAGE_SIZE, as SAM was trained; else to multiples of 32
    cfg.INPUT.AUGMENTATION = "lsj"
    cfg.INPUT.CACHE_FEATURES = False  # compute the frozen features of the training set once, before training
    cfg.INPUT.FEATURE_FOLDER = "output/features"  # where they are kept for the next run
    # Datasets of one's own: {name, image_root, panoptic_root, panoptic_json, vocabulary}, and with label maps
    # {name, image_root, label_root, vocabulary}.
    cfg.DATASETS.PANOPTIC = []
    cfg.DATASETS.SEMANTIC = []
    # Where training and test sets that the package describes have their class names from: "" its tables; the name of a
    # list of vocabulary/published.py, which is fetched; or a folder with its files. One's own datasets keep theirs.
    cfg.DATASETS.CLASS_NAMES = ""

    cfg.DATASETS.CHECK = "full"  # at the start: sizes and ids of all files ("full"), sizes only ("sizes"), "none"
    cfg.DATALOADER.MAX_UNREADABLE = 0.01  # fraction of the images drawn that may be unreadable before training stops

    model = cfg.MODEL
    model.META_ARCHITECTURE = "PosSAM"
    model.COMPILE = False  # torch.compile the encoders and the decoder
    model.TRAIN_VOCABULARY = ""  # a table or JSON file; empty: the vocabulary of the first training dataset
    model.SAM = CfgNode({"NAME": "vit_b", "WEIGHTS": "", "SEED": 0})
    model.CLIP = CfgNode({"NAME": "convnext_large_d_320", "WEIGHTS": "", "INPUT_SCALE": 1.0})
    model.TEXT_CACHE = "output/text"  # folder of the text bank; empty: nothing is kept on disk
    model.PYRAMID = CfgNode({"NAME": "fpn"})  # or "resample": F_sam at every stride, without a feature pyramid
    model.DECODER = CfgNode(
        {
            "NAME": "mask2former",  # or "two_way": SAM's own
            "CHANNELS": 256,
            "QUERIES": 250,
            "LAYERS": 9,
            "HEADS": 8,
            "FEEDFORWARD": 2048,
            "PIXEL_LAYERS": 6,
            "PIXEL_FEEDFORWARD": 1024,
            "POINTS": 4,
            "TWO_WAY_LAYERS": 2,
            "IOU_HEAD": True,  # False: every mask's IoU is taken to be 1, and there is no IoU loss
        }
    )
    model.EMBEDDING = CfgNode({"NAME": "ldp"})  # or "clip": pooled CLIP features without LDP
    model.FC_CLIP = CfgNode({"ENSEMBLE_ON_VALID_MASK": False})  # True: masks too small for CLIP are not judged by it
    model.LDP = CfgNode({"LAYERS": 2, "HEADS": 8, "STREAMS": ["sam", "clip"]})
    model.LOSS = CfgNode(
        {
            "CLASS": 2.0,
            "MASK": 5.0,
            "DICE": 5.0,
            "IOU": 5.0,
            "NO_OBJECT": 0.1,
            "POINTS": 12544,
            "OVERSAMPLE": 3.0,
            "IMPORTANCE": 0.75,
        }
    )
    _add_ensembles(cfg)

    cfg.SOLVER.OPTIMIZER_EPS = 1e-8
    cfg.SOLVER.CHECKPOINT_KEEP = 0  # periodic checkpoints to keep, the newest ones; 0: all
    cfg.SOLVER.ACCUMULATE = 1  # forward passes that the IMS_PER_BATCH images of a step are shared out among
    cfg.SOLVER.NON_FINITE = "stop"  # at NaN or infinity in losses or gradients; "skip" leaves the step out
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    cfg.SOLVER.AMP.PRECISION = "bf16"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"

    cfg.LOG = CfgNode({"PERIOD": 20, "WANDB_PROJECT": ""})  # steps between two log lines; empty: no Weights & Biases

    cfg.TEST.TASKS = ["panoptic", "semantic", "instance"]
    cfg.TEST.OBJECT_THRESHOLD = 0.1
    cfg.TEST.OVERLAP_THRESHOLD = 0.8
    cfg.TEST.VOID_COMPETES = False  # panoptic: a mask goes where void is more probable than its best class
    cfg.TEST.SEMANTIC_RESIZE = "masks"  # or "scores": class sums are resized to the output, not masks
    cfg.TEST.TOP_K = 100
    cfg.TEST.BATCH_SIZE = 1
    cfg.TEST.COMPARE = []  # ensembles to score beside MODEL.ENSEMBLE, on the same forward passes
    cfg.TEST.PICTURES = 0  # pictures drawn for each kind of case after the evaluation
    # Test-time augmentation: every image at every scale of INPUT.IMAGE_SIZE, and mirrored, put together.
    cfg.TEST.AUG = CfgNode({"ENABLED": False, "FLIP": True, "SCALES": [1.0]})


def _add_ensembles(cfg: CfgNode) -> None:
    """`MODEL.ENSEMBLE`: the post-processor in use, and a node of constants for every registered one."""
    node = CfgNode({"NAME": "mase"})
    for name, ensemble in ENSEMBLE_REGISTRY.items():
        node[name.upper()] = CfgNode({key.upper(): value for key, value in ensemble_constants(ensemble).items()})
    cfg.MODEL.ENSEMBLE = node


def ensemble_constants(ensemble: type) -> dict[str, object]:
    """Names and defaults of the constants an ensemble's constructor takes."""
    parameters = inspect.signature(ensemble).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}
