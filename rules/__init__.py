"""Tariff quota rules: says whether a change to tariff quota data is legal, without any I/O."""
