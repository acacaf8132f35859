"""Pure parts: tables and properties."""
