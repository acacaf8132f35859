"""Controllers on one database, killed one after the other under load: `make failover`."""
