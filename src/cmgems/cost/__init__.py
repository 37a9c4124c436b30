"""FLOPs, memory and hours of an experiment, before it runs."""
