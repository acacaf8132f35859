"""The controller's gRPC services, one module for each."""
