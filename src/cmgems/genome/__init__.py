"""The alphabet, and any sequence file -> base codes on disk."""
