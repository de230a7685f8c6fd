"""Dialogues: what is known about complaints, and consultations composed from it."""
