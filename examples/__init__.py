"""Programs to read and to run: start with `make demo`."""
