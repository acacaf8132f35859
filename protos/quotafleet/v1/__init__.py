"""Messages and stubs of the controller's API."""
