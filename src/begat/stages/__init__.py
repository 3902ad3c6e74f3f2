"""One declaration per stage of the pipeline."""
