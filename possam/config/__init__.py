"""Settings: one table of keys, how they are loaded over its defaults, checked, saved and taken over from before."""

from possam.config.checks import check_run, check_values
from possam.config.key import Choice, Key
from possam.config.loading import ConfigFiles, config_folder, find_config, list_files, load, read_with_bases, setting
from possam.config.migration import migrate
from possam.config.portable import SavedConfig
from possam.config.table import PRECISIONS, default_config, ensemble_constants, keys_of, register_keys, systems
from possam.config.unused import unused_settings

__all__ = [
    "PRECISIONS",
    "Choice",
    "ConfigFiles",
    "Key",
    "SavedConfig",
    "check_run",
    "check_values",
    "config_folder",
    "default_config",
    "ensemble_constants",
    "find_config",
    "keys_of",
    "list_files",
    "load",
    "migrate",
    "read_with_bases",
    "register_keys",
    "setting",
    "systems",
    "unused_settings",
]
