"""Typed parameters: their schema, and reading and checking a parameter file."""
