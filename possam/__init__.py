"""Open-vocabulary panoptic segmentation: an image and any list of names in, a mask and a name for every pixel out."""

__version__ = "0.1.0"
