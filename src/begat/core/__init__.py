"""Mathematics on tensors. Knows no disk, no engine and no stage."""
