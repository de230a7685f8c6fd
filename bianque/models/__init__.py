"""Architectures, one a file, none importing another."""
