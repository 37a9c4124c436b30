"""Public data by name: a registry of files and their publishers, fetched once and kept."""
