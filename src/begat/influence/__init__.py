"""Influence functions: per-example gradients, Kronecker-factored curvature, TRAK and TracIn."""
