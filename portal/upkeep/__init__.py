"""5 RETENTION, and what else is looked after: certificates, keys, and how the portal is."""
