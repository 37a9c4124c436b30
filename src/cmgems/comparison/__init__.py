"""Finished runs against each other: what was found (`compare`), as tables, words and a page."""
