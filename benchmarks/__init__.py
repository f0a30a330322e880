"""How fast is it, compared with its peers in the same run?  `python -m benchmarks` prints the tables."""
