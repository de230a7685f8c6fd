"""Bytes to a finished model: fetch, check, read, merge LoRA, quantise, pack."""
