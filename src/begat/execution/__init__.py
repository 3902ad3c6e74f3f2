"""One job: the run that it belongs to, its inputs, its artifact and its record."""
