"""The database: its sessions and turns, its schema, rows in bulk, and pages by key."""
