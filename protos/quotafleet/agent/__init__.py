"""The agent's own API."""
