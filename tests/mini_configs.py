"""Configurations of systems on the miniature world that have a file of their own."""

_OWN = {"SamClip": "../base", "OVSAM": "ovsam", "OVSAMDistillation": "ovsam_sam2clip"}


def mini_config(system):
    """The file that a system's miniature starts from: configs/mini/base.yaml has settings that not all systems have."""
    return f"configs/mini/{_OWN.get(system, 'base')}.yaml"
