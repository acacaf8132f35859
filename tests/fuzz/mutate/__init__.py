"""Mutators that know what inputs are made of, so that what they make gets past the first check."""
