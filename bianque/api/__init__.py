"""Doors for programs: the endpoints that Gradio serves."""
