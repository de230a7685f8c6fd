"""The page: layout and event wiring."""
