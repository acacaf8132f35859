"""A seed that catches each mutant soon, and is tried first. Written by `make mutants`."""

SEEDS: dict[str, int] = {}
