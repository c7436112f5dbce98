"""The miniature world: a drawn panoptic data set with classes that training never sees.

`lexicon` names what exists, `world.draw_scene` draws it with exact ground truth, `export` writes a split in COCO
panoptic format, and `register` puts `mini_a_train`, `mini_b_selection` and `mini_b_report` into the catalogs.
"""
