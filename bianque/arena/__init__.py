"""Several answers to one message: side by side, blind, voted, rated."""
