"""Fuzzing: every parser that meets the outside, held to what it promises for any input. See docs/fuzzing.md."""
