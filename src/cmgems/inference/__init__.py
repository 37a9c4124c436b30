"""What a model says of sequences: vectors, likelihoods, variant effects. Nothing is trained."""
