"""The plan of jobs, their keys, what is out of date, and the generated files."""
