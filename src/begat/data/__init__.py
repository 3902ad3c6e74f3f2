"""Input from outside: datasets, image files, diffusers pipelines and vision networks."""
