"""What `tools/benchmark.py` measures: a file a stage, each with a function `cases`."""
