"""How well a checkpoint finds what it should."""
