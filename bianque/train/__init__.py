"""Training: the bundled preview models."""
