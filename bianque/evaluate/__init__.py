"""How good replies are: the definition of each measure, and what prints them."""
