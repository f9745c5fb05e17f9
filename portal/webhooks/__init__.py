"""Setting up webhooks: their rules, and a preview of what they will send."""
