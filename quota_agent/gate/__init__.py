"""The gate: every acquisition is decided here, by one writer, and is durable once answered."""
