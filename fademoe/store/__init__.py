"""PostgreSQL: rows, coverage, instruments, status. All SQL that changes data lives here."""
