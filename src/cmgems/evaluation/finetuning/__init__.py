"""Training encoders with a head on labelled sequences."""
