"""A tokenization: vocabulary, encode, lengths, what a mask hides."""
