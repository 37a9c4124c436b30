"""Linear models on k-mer counts or frozen vectors."""
