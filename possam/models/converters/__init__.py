"""Published checkpoints of other projects as parameters of this project's models."""
