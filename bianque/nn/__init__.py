"""Layers, caches, quantised and packed linears: torch only."""
