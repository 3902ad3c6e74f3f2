"""Datasets, image files, diffusers pipelines and vision networks: all input from outside."""
