"""All that leaves the portal for a target, through the guard, and what its answer says."""
