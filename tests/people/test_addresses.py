"""E-mail addresses with letters of any language: taken as they go over the wire, or refused with
what to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from portal import addresses
from portal.config import SettingError, load_config
from portal.errors import Invalid
from portal.models import Merchant
from portal.notices import mail
from portal.people import accounts, invitations, members, resets
from tests.conftest import PASSWORD
from tests.mailbox import Mailbox

WIRE = "ann@xn--mller-kva.example"
SPELLINGS = (
    "ann@müller.example",
    " Ann@MÜLLER.Example ",
    "ann@mu\u0308ller.example",
    WIRE,
    "ann@XN--MLLER-KVA.example",
)


@pytest.mark.parametrize("typed", SPELLINGS)
def test_every_spelling_of_a_domain_is_one_address(typed: str):
    assert addresses.clean_email(typed) == WIRE
    assert addresses.email_fault(WIRE) is None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ann@пример.example", "write it as xn--e1afmkfd.example."),
        ("ann@аpple.com", "write it as xn--pple-43d.com."),
        ("ann@例え.jp", "write it as xn--r8jz45g.jp."),
        ("ann@müller..example", "'müller..example' is not a name that can exist"),
        ("ann@☃.example", "is not a name that can exist"),
        ("ann@" + "ü" * 64 + ".example", "is not a name that can exist"),
        ("jürgen@example.com", "The part before the @ holds letters beyond a–z"),
        ("jürgen@müller.example", "The part before the @ holds letters beyond a–z"),
        ("ann", "Give an e-mail address such as ann@example.com."),
        ("ann@exa mple.com", "Give an e-mail address such as ann@example.com."),
        ("@müller.example", "Give an e-mail address such as ann@example.com."),
        ("", "Give an e-mail address such as ann@example.com."),
        ("=?utf-8?q?a=2cbob?=@example.com", "Give an e-mail address such as ann@example.com."),
        ("a" * 300 + "@müller.example", "Give an e-mail address such as ann@example.com."),
    ],
)
def test_what_is_refused_says_what_to_write(typed: str, said: str):
    assert said in (addresses.email_fault(addresses.clean_email(typed)) or "taken")


def test_what_the_refusal_names_is_taken():
    assert addresses.email_fault("ann@xn--e1afmkfd.example") is None


@pytest.mark.parametrize("typed", SPELLINGS)
def test_people_sign_in_as_they_spell_it(client: FlaskClient, merchant: Merchant, typed: str):
    accounts.create_user("ann@müller.example", PASSWORD, "cli", merchant=merchant, role="editor")
    assert accounts.get_user(typed).email == WIRE
    ((page, *_),) = [accounts.users(search="ann@müller.example").rows]
    assert page[0].email == WIRE
    answer = client.post("/sign-in", data={"email": typed, "password": PASSWORD})
    assert answer.status_code == 303
    with pytest.raises(Invalid, match=r"has an account already"):
        accounts.create_user(typed, PASSWORD, "cli")


class TestByMail:
    @pytest.fixture
    def mailbox(self) -> Iterator[Mailbox]:
        mailbox = Mailbox()
        yield mailbox
        mailbox.close()

    @pytest.fixture
    def settings(self, mailbox: Mailbox) -> dict[str, str]:
        return {
            "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
            "MAIL_FROM": "Läden <hooks@läden.example>",
        }

    def test_it_goes_to_and_comes_from_the_address_on_the_wire(
        self, merchant: Merchant, mailbox: Mailbox
    ):
        accounts.create_user("ann@müller.example", PASSWORD, "cli")
        resets.send_link("ANN@Müller.example")
        invitations.invite(merchant, "bob@müller.example", "viewer", "cli")
        assert mail.send_due() == 2
        assert {message["To"] for message in mailbox.messages} == {
            WIRE,
            "bob@xn--mller-kva.example",
        }
        assert {message["From"] for message in mailbox.messages} == {
            "Läden <hooks@xn--lden-loa.example>"
        }


@pytest.mark.parametrize("email", ["ann@пример.example", "jürgen@example.com"])
def test_each_place_that_takes_an_address_says_it(merchant: Merchant, email: str):
    for take in (
        lambda: accounts.create_user(email, PASSWORD, "cli"),
        lambda: members.add_member(merchant, email, "viewer", "cli"),
        lambda: invitations.invite(merchant, email, "viewer", "cli"),
        lambda: resets.send_link(email),
    ):
        with pytest.raises(Invalid) as caught:
            take()
        (said,) = caught.value.by_field()["email"]
        assert said == addresses.email_fault(email)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hooks@пример.example", "write it as xn--e1afmkfd.example"),
        ("jürgen@example.com", "letters beyond a–z"),
        ("hooks@", "give an address such as hooks@example.com"),
    ],
)
def test_a_sender_that_no_mail_can_have_stops_the_start(tmp_path: Path, text: str, said: str):
    with pytest.raises(SettingError, match=r"PORTAL_MAIL_FROM=.* cannot be used: ") as caught:
        load_config(
            {
                "PORTAL_DATA_DIR": str(tmp_path),
                "PORTAL_SMTP_URL": "smtp://127.0.0.1",
                "PORTAL_MAIL_FROM": text,
            }
        )
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("unix:", "unix:"),
        ("192.0.2.7:50000", "192.0.2.7"),
        ("[2001:db8:1:2::9]:50000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
    ],
)
def test_limits_count_for_what_one_host_may_have_of_addresses(address: str, network: str) -> None:
    assert addresses.network_of(address) == network
    if ":" not in network:
        assert addresses.site_of(address) == network


def test_a_site_is_all_the_networks_that_one_may_have():
    one = addresses.site_of("2001:db8:1:2::3")
    assert one == addresses.site_of("[2001:db8:1:ffff::1]:8080") == "2001:db8:1::/48"
    assert one != addresses.site_of("2001:db8:2:2::3")
    assert addresses.site_of("192.0.2.1:80") == "192.0.2.1"
