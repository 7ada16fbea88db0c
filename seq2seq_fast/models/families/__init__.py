"""Families of models: each reads a file of its kind as a plan and tensors; assembly.py makes the
model of these."""
