"""What a request is to the portal's views, by its method."""

from __future__ import annotations

from typing import Any

from flask import Request


class PortalRequest(Request):
    """A request of which HEAD is GET to every view (RFC 9110, 9.3.2), so that no view can take it
    for a form that was sent: such are protected and limited as POST alone. Its answer goes out
    without the body all the same."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        if self.method == "HEAD":
            self.method = "GET"
