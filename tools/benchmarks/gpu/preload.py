"""Imported once in the process that cases are forked from; nothing of it touches a device."""

import possam.engine  # noqa: F401
import possam.models  # noqa: F401
import possam.predict.prompting  # noqa: F401
