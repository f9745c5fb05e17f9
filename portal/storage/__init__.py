"""How much each merchant stores, measured and bounded."""
