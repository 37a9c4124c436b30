"""One step of pretraining and what is measured of it."""
