"""Sending functions to worker processes."""

import pickle
from typing import Any

__all__ = ["PicklableWrapper"]


class PicklableWrapper:
    """A callable that can be pickled even where it wraps a lambda or a closure, if cloudpickle is installed.

    Plain functions and objects need nothing but pickle.
    """

    _obj: Any

    def __init__(self, obj: Any):
        while isinstance(obj, PicklableWrapper):
            obj = obj._obj
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self._obj)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            try:
                import cloudpickle
            except ImportError:
                raise pickle.PicklingError(
                    f"{self._obj!r} cannot be sent to another process: {error}. Use a function or class defined "
                    "at the top of a module, or install cloudpickle."
                ) from error
            return _unwrap, (cloudpickle.dumps(self._obj),)
        return PicklableWrapper, (self._obj,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_obj":  # not set yet while unpickling
            raise AttributeError(name)
        return getattr(self._obj, name)


def _unwrap(payload: bytes) -> PicklableWrapper:
    import cloudpickle

    return PicklableWrapper(cloudpickle.loads(payload))
