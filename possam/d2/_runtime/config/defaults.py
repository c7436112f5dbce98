"""The default config: of Detectron2's keys, those that this project or the runtime reads, with the same values."""

from .config import CfgNode as CN

_C = CN(
    {
        "VERSION": 2,
        "MODEL": {
            "DEVICE": "cuda",
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "WEIGHTS": "",  # path or URL of the checkpoint to start from
            "MASK_ON": False,
            "PIXEL_MEAN": [103.530, 116.280, 123.675],  # in the channel order of INPUT.FORMAT
            "PIXEL_STD": [1.0, 1.0, 1.0],
        },
        "INPUT": {
            "MIN_SIZE_TRAIN": (800,),
            "MIN_SIZE_TRAIN_SAMPLING": "choice",  # or "range": what MIN_SIZE_TRAIN lists
            "MAX_SIZE_TRAIN": 1333,
            "MIN_SIZE_TEST": 800,  # 0 tests at the images' own size
            "MAX_SIZE_TEST": 1333,
            "RANDOM_FLIP": "horizontal",  # or "vertical", "none"
            "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
            "FORMAT": "BGR",
            "MASK_FORMAT": "polygon",  # or "bitmask"
        },
        "DATASETS": {"TRAIN": (), "TEST": ()},
        "DATALOADER": {
            "NUM_WORKERS": 4,
            "ASPECT_RATIO_GROUPING": True,
            "SAMPLER_TRAIN": "TrainingSampler",
            "REPEAT_THRESHOLD": 0.0,
            "REPEAT_SQRT": True,
            "FILTER_EMPTY_ANNOTATIONS": True,
        },
        "SOLVER": {
            "LR_SCHEDULER_NAME": "WarmupMultiStepLR",  # or WarmupCosineLR, WarmupStepWithFixedGammaLR
            "MAX_ITER": 40000,
            "BASE_LR": 0.001,
            "BASE_LR_END": 0.0,  # only of WarmupCosineLR
            "MOMENTUM": 0.9,
            "NESTEROV": False,
            "WEIGHT_DECAY": 0.0001,
            "WEIGHT_DECAY_NORM": 0.0,
            "WEIGHT_DECAY_BIAS": None,  # None: as WEIGHT_DECAY
            "BIAS_LR_FACTOR": 1.0,
            "GAMMA": 0.1,
            "STEPS": (30000,),
            "NUM_DECAYS": 3,  # only of WarmupStepWithFixedGammaLR
            "WARMUP_FACTOR": 0.001,
            "WARMUP_ITERS": 1000,
            "WARMUP_METHOD": "linear",
            "RESCALE_INTERVAL": False,
            "CHECKPOINT_PERIOD": 5000,
            "IMS_PER_BATCH": 16,  # over all processes
            "REFERENCE_WORLD_SIZE": 0,  # not 0: scale batch, rate and length to the number of processes
            "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0},
            "AMP": {"ENABLED": False},
        },
        "TEST": {
            "EXPECTED_RESULTS": [],  # rows of [task, metric, value, tolerance]
            "EVAL_PERIOD": 0,
            "DETECTIONS_PER_IMAGE": 100,
            "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
        },
        "OUTPUT_DIR": "./output",
        "SEED": -1,  # negative: a fresh seed every run
        "CUDNN_BENCHMARK": False,
        "FLOAT32_PRECISION": "",  # or "highest", "high", "medium"
        "VIS_PERIOD": 0,
        "GLOBAL": {"HACK": 1.0},
    }
)
