"""The built-in subset of Detectron2: what this project calls of it, under the same module paths; no compiler needed.

Nothing outside `possam.d2` imports from here; everything goes through the modules of `possam.d2`.
"""
