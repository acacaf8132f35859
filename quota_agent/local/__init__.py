"""The services that applications on this machine call."""
