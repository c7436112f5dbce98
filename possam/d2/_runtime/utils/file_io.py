"""The one path manager of the runtime, so that local paths and URLs open alike."""

from iopath.common.file_io import HTTPURLHandler
from iopath.common.file_io import PathManager as _PathManagerClass

# An own instance: handlers registered by other libraries on the global one must not leak in here.
PathManager = _PathManagerClass()
PathManager.register_handler(HTTPURLHandler())
