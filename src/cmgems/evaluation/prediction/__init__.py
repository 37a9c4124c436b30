"""What a saved classifier says of sequences that people have."""
