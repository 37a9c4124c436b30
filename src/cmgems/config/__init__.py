"""Every key of an experiment, and reading YAML into it. Knows no domain."""
