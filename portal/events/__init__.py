"""1 EVENT IN and 2 FAN-OUT: checked, matched with webhooks, stored with what it owes."""
