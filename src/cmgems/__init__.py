"""cmgems: curriculum masking for gene transformers."""

__version__ = "0.1.0"
