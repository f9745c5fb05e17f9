"""The request of one attempt: filled, made, signed."""
