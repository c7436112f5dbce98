"""The demo: a page in the browser for pictures, words and prompts. Needs Gradio."""
