"""The demo: a page in the browser for pictures, words and prompts. Needs Gradio."""

from possam.demo.page import build_app, launch
from possam.demo.segmenting import segment
from possam.demo.typed import read_typed

__all__ = ["build_app", "launch", "read_typed", "segment"]
