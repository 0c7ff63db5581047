"""Notebooks: each is a Python file in jupytext's percent format, and beside it the executed ``.ipynb``."""
