"""Finished runs against each other: what was found (`compare`), told as tables, words and a page."""
