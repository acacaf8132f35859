"""The agent: enforces its share of each quota on its own machine, connected or not."""
