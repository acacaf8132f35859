"""The commands `quota-server` and `quotactl`."""
