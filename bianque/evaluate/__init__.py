"""How good replies are: the definition of each measure, baselines to compare with, and what prints them."""
