"""The command `quota-agent`."""
