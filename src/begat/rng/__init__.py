"""Seeds and random generators, derived from one root seed."""
