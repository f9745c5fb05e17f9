"""4 BROWSE: reading the logs."""
