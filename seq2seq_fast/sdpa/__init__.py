"""Scaled dot-product attention: the public functions, their checks, and the key-value cache."""
