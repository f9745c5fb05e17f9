"""3 DELIVERY: lanes, the drain that sends what is due, and the log of what came back."""
