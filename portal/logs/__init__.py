"""4 BROWSE and 5 RETENTION: reading the logs, and deleting what is past its days."""
