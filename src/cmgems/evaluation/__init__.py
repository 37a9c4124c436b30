"""Score models on labelled tasks, with baselines and intervals."""
