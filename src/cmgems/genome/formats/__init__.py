"""Readers of sequence files, one per format."""
