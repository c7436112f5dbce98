"""Sending functions to worker processes."""

import pickle
from typing import Any

try:
    import cloudpickle as _pickler
except ImportError:  # then lambdas and closures cannot be sent, and pickle says so
    _pickler = pickle


class PicklableWrapper:
    """A callable that can be pickled even where it wraps a lambda or a closure, by cloudpickle."""

    def __init__(self, obj: Any):
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (_pickler.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)
