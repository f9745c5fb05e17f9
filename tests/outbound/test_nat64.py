"""An address with a prefix of NAT64 is what the IPv4 address in it is (RFC 6052)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from flask.testing import FlaskClient

from portal.composing.compose import Frame, Outgoing
from portal.outbound.egress import Nat64, admitted, inspector_refusal, refusal, refusal_here
from portal.outbound.libcurl import send_now
from portal.settings.setting_values import nat64_prefixes
from portal.webhooks.url_rules import UrlContext, clean_url

OWN = "2001:db8:64::/96"


def prefixes(*texts: str) -> Sequence[Nat64]:
    return [one for one in admitted((), nat64_prefixes(" ".join(texts))) if isinstance(one, Nat64)]


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        # The table of section 2.4, and 2.1.
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ],
)
def test_the_address_within_is_found_as_the_rfc_has_it(prefix: str, address: str):
    (one,) = prefixes(prefix)
    assert one.carried(ipaddress.IPv6Address(address)) == ipaddress.IPv4Address("192.0.2.33")
    refused = refusal(ipaddress.ip_address(address), prefixes(prefix))
    assert refused == "documentation, 192.0.2.33 by NAT64"


@pytest.mark.parametrize("prefix", [OWN, "64:ff9b::/96", "64:ff9b:1::/96", "2a00:1:64::/96"])
@pytest.mark.parametrize(
    ("within", "kind"),
    [
        ("10.0.0.1", "private"),
        ("127.0.0.1", "loopback"),
        ("169.254.169.254", "cloud metadata"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("0.0.0.0", "this network"),
        ("8.8.8.8", None),
    ],
)
def test_it_is_reached_where_that_may_be_and_nowhere_else(
    prefix: str, within: str, kind: str | None
):
    network = ipaddress.IPv6Network(prefix)
    address = network[int(ipaddress.IPv4Address(within))]
    refused = refusal(address, prefixes(prefix))
    assert refused == (kind and f"{kind}, {within} by NAT64")
    # Nor by whom the portal sends its inspectors' requests with.
    assert (inspector_refusal(address, prefixes(prefix)) is None) == (kind is None)


def test_what_is_admitted_by_its_ipv4_address_is_so_by_nat64():
    allow = admitted([ipaddress.ip_network("10.1.0.0/16")], nat64_prefixes(OWN))
    assert refusal(ipaddress.ip_address("2001:db8:64::10.1.2.3"), allow) is None
    assert refusal(ipaddress.ip_address("2001:db8:64::10.2.0.1"), allow) is not None


def test_an_admitted_network_around_the_prefix_admits_nothing_behind_it():
    allow = admitted([ipaddress.ip_network("2001:db8::/32")], nat64_prefixes(OWN))
    assert refusal(ipaddress.ip_address("2001:db8::1"), allow) is None
    assert refusal(ipaddress.ip_address("2001:db8:64::10.0.0.1"), allow) is not None
    assert refusal_here(ipaddress.ip_address("2001:db8:64::127.0.0.1"), allow) is not None


def test_an_address_that_is_not_made_as_the_rfc_has_it_is_refused():
    assert (
        refusal(ipaddress.ip_address("2001:db8:808:808:100::"), prefixes("2001:db8::/32"))
        == "NAT64"
    )


def test_without_the_setting_the_well_known_prefix_is_refused_whatever_it_carries():
    for prefix in ("64:ff9b::", "64:ff9b:1::"):
        assert refusal(ipaddress.ip_address(f"{prefix}8.8.8.8")) == "NAT64"


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/8",
        "2001:db8::/33",
        "2001:db8::/128",
        "64:ff9b::1/96",
        "64:ff9b::",
        "nat64",
        "2001:db8:1:2:ff00::/96",
    ],
)
def test_what_is_no_prefix_of_nat64_is_refused_at_the_start(text: str):
    with pytest.raises(ValueError, match=r"64:ff9b|RFC 6052"):
        nat64_prefixes(text)


class TestWithTheSetting:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"NAT64_PREFIXES": f"64:ff9b::/96, {OWN}"}

    def test_a_webhook_to_one_inside_is_not_saved(self, client: FlaskClient, api_key: str):
        def save(host: str) -> tuple[int, str]:
            answer = client.post(
                "/api/v1/webhooks",
                headers={"Authorization": f"Bearer {api_key}"},
                json={"url": f"http://[{host}]/", "events": ["*"], "description": "x"},
            )
            return answer.status_code, answer.text

        status, text = save("2001:db8:64::a00:1")
        assert (status, "private, 10.0.0.1 by NAT64" in text) == (422, True)
        assert save("2001:db8:64::808:808")[0] == 201
        assert save("64:ff9b::808:808")[0] == 201


def test_nothing_is_sent_to_one_inside():
    url = "http://[2001:db8:64::7f00:1]:9/"
    outgoing = Outgoing(Frame("POST", url, [], url, []), [], b"{}", "own")
    answer = send_now(outgoing, 5, prefixes(OWN))
    assert answer.error == "egress_refused"


def test_the_sentence_names_the_address_within():
    with pytest.raises(ValueError, match=r"private, 10\.0\.0\.1 by NAT64"):
        clean_url("http://[2001:db8:64::a00:1]/", UrlContext(allow=prefixes(OWN)))
