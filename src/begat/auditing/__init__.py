"""Where a score came from, and whether it holds: audit, proofs of membership, challenges."""
