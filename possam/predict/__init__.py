"""Prediction: the predictor, its results, images and videos as sources, and many of them at a time."""

from possam.predict.batch_predictor import BatchPredictor

__all__ = ["BatchPredictor"]
