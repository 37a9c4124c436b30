"""What a model looks at: per base, what its substitution changes."""
