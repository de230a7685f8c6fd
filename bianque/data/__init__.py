"""Dialogues: read, check, and composed from what is known of complaints."""
