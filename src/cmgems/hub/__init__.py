"""Pretrained models in, Hugging Face folders out."""
