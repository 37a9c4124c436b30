"""Labelled sequences: definitions, files, splits, leakage."""
