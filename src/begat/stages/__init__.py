"""One module per stage: array-likes in, arrays (or an iterator of blocks) out. No paths."""
