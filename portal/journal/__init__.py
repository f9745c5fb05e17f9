"""What the portal writes down for who runs it: its log, and the IDs that requests have there."""
