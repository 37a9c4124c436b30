"""Downstream evaluation: labelled tasks, scores with their uncertainty, baselines and audits."""
