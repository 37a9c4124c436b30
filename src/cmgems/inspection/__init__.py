"""What the masks of an experiment do to real sequence."""
