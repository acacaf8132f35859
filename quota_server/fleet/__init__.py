"""The agents' streams: their protocol, their sessions, and the fan-out over all of them."""
