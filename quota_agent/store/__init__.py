"""The gate's store on SQLite."""
