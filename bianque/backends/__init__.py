"""Who answers: this machine, or a GPU that comes and goes."""
