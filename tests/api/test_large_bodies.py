"""Bodies of many events: what was read of them takes many times their size of memory."""

from __future__ import annotations

import json

from flask import Flask

from portal.api.reading import MAX_BODY
from portal.fairness import places
from portal.models import Merchant
from tests.api.caller import Caller, problem
from tests.api.conftest import ORDER


def test_of_one_store_one_large_body_is_read_at_a_time_and_small_ones_always(
    app: Flask, api: Caller, bobs: Caller, alice: Merchant
) -> None:
    large = json.dumps({"events": [ORDER] * 2}).encode().ljust(MAX_BODY + 1)
    # One of that store is being read.
    with app.app_context(), places.held(places.BODY, alice.id):
        refused = problem(api.send("POST", "/events", large), 429)
        assert "being read" in refused["detail"]
        assert api.post("/events", ORDER).status_code == 202
        assert bobs.send("POST", "/events", large).status_code == 202
    assert api.send("POST", "/events", large).status_code == 202
