"""Dialogues: read and check."""
