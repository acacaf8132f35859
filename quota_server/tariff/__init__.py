"""Tariff quota data: what is stored, in memory, and what it takes to change it."""
