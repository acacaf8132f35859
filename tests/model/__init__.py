"""Stateful tests: the real parts against a small model."""
