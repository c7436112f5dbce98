"""The built-in subset of Detectron2: same module paths, names, signatures and behaviour, no compiler needed.

Nothing outside `possam.d2` imports from here; everything goes through the door modules of `possam.d2`.
"""
