"""Encoders and their parts, chosen by the config."""
