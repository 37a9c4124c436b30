"""The masking strategies."""
