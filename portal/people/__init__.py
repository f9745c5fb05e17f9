"""Merchants, users, members, API keys, and the audit log of what they did."""
