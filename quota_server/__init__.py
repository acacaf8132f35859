"""The controller: holds the quotas and shares each one out over a fleet of agents."""
