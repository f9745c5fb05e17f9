"""Deliveries: what is owed, and sending one again."""

from __future__ import annotations

from flask import Response, g, jsonify

from portal import browse, delivery
from portal.api import filters, reading, shapes
from portal.api.blueprint import bp
