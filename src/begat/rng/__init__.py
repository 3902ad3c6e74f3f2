"""Seeds, and the generators of NumPy and PyTorch derived from one root seed."""
