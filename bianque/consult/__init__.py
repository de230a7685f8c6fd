"""What is said and who says it next: no torch, no gradio."""
