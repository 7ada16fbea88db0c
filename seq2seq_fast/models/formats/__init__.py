"""Readers of published weight files, one module per format; each returns plain named arrays."""
