"""The framework's own linear layers, in place of the package's."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from possam.layers import linear as room


@contextmanager
def framework_linear() -> Iterator[None]:
    """Inside, as context or decorator, `possam.layers.Linear` is `torch.nn.Linear`; gradients of it too."""
    with patch.object(room, "HAS_ONEDNN", False):
        yield
