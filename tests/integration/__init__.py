"""Real gRPC on real databases."""
