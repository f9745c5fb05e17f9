"""A portal that listens everywhere is at each address of its machine; none of them is a target."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import pytest
from flask.testing import FlaskClient

from portal.webhooks.resolver import is_of_this_machine


def addresses() -> list[str]:
    """An address of loopback that no setting names, and those that others reach this machine at."""
    found = ["127.0.0.2"]
    for family, elsewhere in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(probe.getsockname()[0])
    return found


@pytest.fixture(params=["0.0.0.0", "::"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    admitted = ",".join(addresses()) + ",203.0.113.0/24"
    return {"HOST": request.param, "PORT": "8123", "EGRESS_ALLOW": admitted}


def test_none_of_its_machines_addresses_is_a_target(client: FlaskClient, api_key: str):
    def save(host: str, port: int) -> tuple[int, str]:
        shown = f"[{host}]" if ":" in host else host
        answer = client.post(
            "/api/v1/webhooks", headers={"Authorization": f"Bearer {api_key}"},
            json={"url": f"http://{shown}:{port}/", "events": ["*"], "description": "x"},
        )
        return answer.status_code, answer.text

    for own in addresses():
        status, text = save(own, 8123)
        assert (status, "the portal's own" in text) == (422, True), own
        # Another server of the same machine may be one.
        assert save(own, 8124)[0] == 201
    assert save("203.0.113.7", 8123)[0] == 201


def test_the_kernel_tells_which_they_are():
    own = {ipaddress.ip_address(one) for one in (*addresses(), "::1", "0.0.0.0", "::")}
    assert all(map(is_of_this_machine, own))
    for other in ("203.0.113.7", "2001:db8::7", "8.8.8.8", "169.254.169.254"):
        assert not is_of_this_machine(ipaddress.ip_address(other))
