"""Which models there are, what each weighs, how its prompt is written."""
