"""The default config: of Detectron2's keys, those that this project or the runtime reads, with the same values.

Where a key chooses among names: MIN_SIZE_TRAIN_SAMPLING is "choice" or "range"; RANDOM_FLIP is "horizontal", "vertical"
or "none"; LR_SCHEDULER_NAME is WarmupMultiStepLR, WarmupCosineLR (which ends at BASE_LR_END) or
WarmupStepWithFixedGammaLR (which takes NUM_DECAYS). A WEIGHT_DECAY_BIAS of None follows WEIGHT_DECAY.
"""

from .config import CfgNode as CN

_C = CN({
    "VERSION": 2, "OUTPUT_DIR": "./output", "VIS_PERIOD": 0, "CUDNN_BENCHMARK": False, "GLOBAL": {"HACK": 1.0},
    "SEED": -1,  # negative: a fresh seed every run
    "FLOAT32_PRECISION": "",  # or "highest", "high", "medium"
    "MODEL": {
        "DEVICE": "cuda", "META_ARCHITECTURE": "GeneralizedRCNN", "WEIGHTS": "", "MASK_ON": False,
        # In the channel order of INPUT.FORMAT.
        "PIXEL_MEAN": [103.530, 116.280, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0],
    },
    "INPUT": {
        "MIN_SIZE_TRAIN": (800,), "MIN_SIZE_TRAIN_SAMPLING": "choice", "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333,  # a minimum of 0 tests at the images' own size
        "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
        "RANDOM_FLIP": "horizontal", "FORMAT": "BGR", "MASK_FORMAT": "polygon",
    },
    "DATASETS": {"TRAIN": (), "TEST": ()},
    "DATALOADER": {
        "NUM_WORKERS": 4, "ASPECT_RATIO_GROUPING": True, "FILTER_EMPTY_ANNOTATIONS": True,
        "SAMPLER_TRAIN": "TrainingSampler", "REPEAT_THRESHOLD": 0.0, "REPEAT_SQRT": True,
    },
    "SOLVER": {
        "MAX_ITER": 40000, "CHECKPOINT_PERIOD": 5000, "AMP": {"ENABLED": False},
        "IMS_PER_BATCH": 16,  # over all processes
        "REFERENCE_WORLD_SIZE": 0,  # not 0: scale batch, rate and length to the number of processes
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR", "BASE_LR": 0.001, "BASE_LR_END": 0.0,
        "GAMMA": 0.1, "STEPS": (30000,), "NUM_DECAYS": 3, "RESCALE_INTERVAL": False,
        "WARMUP_FACTOR": 0.001, "WARMUP_ITERS": 1000, "WARMUP_METHOD": "linear",
        "MOMENTUM": 0.9, "NESTEROV": False, "BIAS_LR_FACTOR": 1.0,
        "WEIGHT_DECAY": 0.0001, "WEIGHT_DECAY_NORM": 0.0, "WEIGHT_DECAY_BIAS": None,
        "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0},
    },
    "TEST": {
        "EXPECTED_RESULTS": [],  # rows of [task, metric, value, tolerance]
        "EVAL_PERIOD": 0, "DETECTIONS_PER_IMAGE": 100, "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
    },
})  # fmt: skip
