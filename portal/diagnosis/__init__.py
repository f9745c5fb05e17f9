"""One attempt, one event, one request, explained."""
