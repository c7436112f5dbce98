"""What `tools/benchmark.py` measures: a file a stage, each with a function `cases`."""

STAGES = {
    "encoder": "benchmarks.encoder",
    "deform-attn": "benchmarks.deform_attn",
    "decoder": "benchmarks.decoder",
    "merge": "benchmarks.merge",
    "text": "benchmarks.text",
    "train-step": "benchmarks.train_step",
    "pq": "benchmarks.pq",
    "loader": "benchmarks.loader",
}
"""Name of a stage on the command line → its module."""
