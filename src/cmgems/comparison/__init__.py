"""Finished runs against each other: read (`records`), compared (`compare`), and written as tables,
a verdict, plots and a page."""
