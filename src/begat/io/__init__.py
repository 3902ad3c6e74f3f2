"""The only room that knows disks: datasets, parameters, artifacts, keys."""
