"""Which tokens are masked, and the packed, corrupted batch that the encoder gets."""
