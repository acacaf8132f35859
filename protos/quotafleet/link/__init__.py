"""What both ends of the agent link agree on: its messages as plain values, and their form on the wire."""
