"""Chaos with real processes: a fleet is killed, stalled, starved, put back and copied while it is held to S1 to S7."""
