"""Overrides: permission to spend an amount, once, beyond the limit."""
