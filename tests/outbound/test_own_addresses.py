"""A portal that listens everywhere is at each address of its machine; none of them is a target."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from portal.outbound import egress
from portal.outbound.egress import is_of_this_machine
from portal.webhooks.url_rules import UrlContext, clean_url

ROOT = Path(__file__).resolve().parents[2]


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
            "/api/v1/webhooks",
            headers={"Authorization": f"Bearer {api_key}"},
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


IN_A_NETWORK_OF_ITS_OWN = """
import http.server, ipaddress, json, sys, threading
from portal.composing.compose import Frame, Outgoing
from portal.outbound.libcurl import send_now

class Inside(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"for this machine alone")
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Inside)
threading.Thread(target=server.serve_forever, daemon=True).start()
found = []
for allow in ([], [ipaddress.ip_network("203.0.114.7/32")]):
    url = f"http://203.0.114.7:{server.server_port}/"
    answer = send_now(Outgoing(Frame("GET", url, [], url, []), [], None, "none"), 5, allow)
    found.append([answer.status, answer.error, answer.error_detail])
print(json.dumps(found))
"""


def test_what_listens_at_a_public_address_of_this_machine_is_not_reached():
    """Nor behind its firewall: what comes from the machine itself passes that."""
    start = 'ip link set lo up && ip address add 203.0.114.7/32 dev lo && exec "$@"'
    run = (
        subprocess.run(
            [
                "unshare",
                "--user",
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                start,
                "sh",
                sys.executable,
                "-c",
                IN_A_NETWORK_OF_ITS_OWN,
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
            check=False,
        )
        if shutil.which("unshare") and shutil.which("ip")
        else None
    )
    if run is None or run.returncode:
        pytest.skip(f"a network of one's own is not to be had: {run and run.stderr[-300:]}")
    refused, admitted = json.loads(run.stdout)
    assert refused[:2] == [None, "egress_refused"]
    assert "203.0.114.7 is the portal's own machine" in refused[2]
    assert admitted[:2] == [200, None]


def test_a_public_address_of_this_machine_is_refused_when_it_is_saved(
    monkeypatch: pytest.MonkeyPatch,
):
    own = ipaddress.ip_address("203.0.114.7")
    monkeypatch.setattr(egress, "is_of_this_machine", lambda address: address == own)
    for resolve, host in ((None, str(own)), (lambda _: [own], "shop.example.com")):
        with pytest.raises(ValueError, match=r"203\.0\.114\.7 \(the portal's own machine\)"):
            clean_url(f"https://{host}/", UrlContext(resolve=resolve))
    admitted = UrlContext([ipaddress.ip_network("203.0.114.0/24")])
    assert clean_url("https://203.0.114.7/", admitted)
    assert clean_url("https://203.0.114.8/", UrlContext())
    assert egress.inspector_refusal(own) is None
