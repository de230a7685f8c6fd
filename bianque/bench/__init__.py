"""Benchmarks: each beside a named peer in the same run, medians of interleaved rounds."""
