"""The server's database: SQLite in WAL mode, one writer. Knows rows and structs, no links, rights or
schedules."""
