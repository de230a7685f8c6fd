"""The page and the public endpoints: layout and event wiring."""
