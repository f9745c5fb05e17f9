"""Numbers: counted by the hour, and shown."""
