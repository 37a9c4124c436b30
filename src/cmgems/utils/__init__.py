"""Helpers that know nothing of DNA."""
