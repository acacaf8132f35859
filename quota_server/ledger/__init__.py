"""What the fleet may spend: escrow, sharing policies, and the port of their store."""
