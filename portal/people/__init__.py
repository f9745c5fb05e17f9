"""Merchants, users, members, API keys, and how people sign in."""
