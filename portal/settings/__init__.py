"""How settings are found and read."""
