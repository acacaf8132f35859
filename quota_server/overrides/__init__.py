"""Permissions to spend beyond a limit, once: decisions and codes."""
