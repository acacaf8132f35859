"""Messages and stubs of the agent's API."""
