"""Zarr artifacts with a schema, their manifests, the result cache and checkpoints."""
