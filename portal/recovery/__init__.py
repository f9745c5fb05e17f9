"""Recover: sending again, or discarding, however many there are."""
