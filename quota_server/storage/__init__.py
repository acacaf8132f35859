"""The ledger's store on a database: SQLite by default, PostgreSQL for many controllers."""
