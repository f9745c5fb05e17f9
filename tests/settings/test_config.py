"""A setting that cannot be used stops the start with a sentence that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portal.config import SETTINGS, Config, SettingError, load_config
from portal.settings import surroundings


def load(tmp_path: Path, **settings: str):
    """As a first start takes them."""
    return load_config(
        {"PORTAL_DATA_DIR": str(tmp_path)} | {f"PORTAL_{k}": v for k, v in settings.items()},
        first_start=True,
    )


def test_defaults_need_nothing(tmp_path: Path):
    config = load(tmp_path)
    assert config.port == 8000
    assert config.database_url == f"sqlite:///{tmp_path / 'portal.db'}"
    assert config.redis_url == f"unix://{tmp_path / 'valkey.sock'}"
    assert config.egress_allow == ()
    assert config.retry_schedule == (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "99999"),
        ("PORT", "http"),
        ("EGRESS_ALLOW", "10.0.0.1/8"),
        ("EGRESS_ALLOW", "intranet"),
        ("RETRY_SCHEDULE", "5 x"),
        ("RETRY_SCHEDULE", "-1"),
        ("DATABASE_URL", "mysql://a/b"),
        ("REDIS_URL", "localhost"),
        ("SECRET_KEY", "short"),
        ("LOG_LEVEL", "LOUD"),
        ("PUBLIC_URL", "hooks.example.com"),
        ("RETENTION_CRON", "at night"),
        ("SECURE_COOKIES", "maybe"),
        ("PAYLOAD_DAYS", "61"),
        ("SMTP_URL", "mail.example.com"),
        ("SMTP_URL", "http://mail.example.com"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://mail.example.com:99999"),
        ("SMTP_URL", "smtp://:secret@mail.example.com"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "a@example.com\nBcc: b@example.com"),
        ("MAIL_FROM", "a@example.com, b@example.com"),
        ("TIMEOUT_SECONDS", "-1"),
        ("NO_SUCH_SETTING", "1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str):
    with pytest.raises(SettingError, match=f"PORTAL_{name}"):
        load(tmp_path, **{name: value})


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="PORTAL_DATA_DIR"):
        load(tmp_path / "file" / "below")


def test_a_deep_directory_gets_a_socket_that_is_short_enough(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    config = load(deep)
    assert len(os.fsencode(config.redis_url.removeprefix("unix://"))) <= 107
    assert load(deep).redis_url == config.redis_url


@pytest.mark.parametrize("kind", ["of another user", "open to others", "a link", "a file"])
def test_its_socket_is_not_where_others_could_have_put_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr(surroundings, "_TEMPORARY", tmp_path)
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    place = tmp_path / f"webhook-portal-{os.getuid()}"
    place.mkdir(0o700)
    load(deep)
    if kind == "of another user":
        if os.getuid():
            pytest.skip("only root makes a directory for another user")
        os.chown(place, 65_534, -1)
    elif kind == "open to others":
        place.chmod(0o755)
    else:
        place.rename(tmp_path / "elsewhere")
        if kind == "a link":
            place.symlink_to(tmp_path / "elsewhere")
        else:
            place.touch(0o600)
    with pytest.raises(SettingError, match=r"not a directory that is this user's alone.*shorter"):
        load(deep)
    # A server of one's own needs no directory.
    load(deep, REDIS_URL="redis://127.0.0.1:1")


def test_mail_needs_a_sender(tmp_path: Path):
    with pytest.raises(SettingError, match="PORTAL_MAIL_FROM is needed"):
        load(tmp_path, SMTP_URL="smtp://mail.example.com")
    url = "smtps://ann%40example.com:secret@mail.example.com:465"
    config = load(tmp_path, SMTP_URL=url, MAIL_FROM="Webhooks <hooks@example.com>")
    assert (config.smtp_url, config.mail_from) == (url, "Webhooks <hooks@example.com>")


def test_a_password_is_not_in_the_sentence_about_its_address(tmp_path: Path):
    with pytest.raises(SettingError) as caught:
        load(tmp_path, SMTP_URL="smtp://ann:hunter/2x@mail.example.com:99999")
    assert "hunter" not in str(caught.value)
    assert "2x" not in str(caught.value)


ODD = {
    "empty": "",
    "spaces": "  ",
    "quotes": '"8000"',
    "single quotes": "'x'",
    "unicode": "żółć",
    "full-width digits": "８",
    "huge": "9" * 9_000,
    "huge number": "9" * 400,
    "negative": "-1",
    "float": "1.5",
    "exponent": "1e3",
    "underscore": "1_0",
    "hex": "0x10",
    "yes": "yes",
    "on": "On",
    "TRUE": "TRUE",
    "trailing newline": "1\n",
    "inner newline": "a\nb",
    "NUL": "a\0b",
    "bytes": "\udcff",
    "scheme": "https://",
    "colon": ":",
    "slash": "/",
    "space": "a b",
    "url": "https://hooks.example.com",
    "port": "http://h:99999",
    "no port": "http://h:",
    "port 0": "http://h:0",
    "user": "https://u:hidden@h",
    "bracket": "http://[::1",
    "home": "~nobody-x",
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_odd_value_is_taken_rightly_or_refused_by_name(tmp_path: Path, setting, odd: str):
    """It is refused by a sentence of one line that is no secret's, or what comes of it has the
    setting's type and is as good as its default."""
    text = ODD[odd]
    settings = {setting.name: text}
    if setting.name in ("DATA_DIR", "ENV_FILE") and text.strip():
        settings[setting.name] = str(tmp_path / text.strip(" /")) if "\0" not in text else text
    try:
        config = load(tmp_path, **settings)
    except SettingError as error:
        said = str(error)
        assert f"PORTAL_{setting.name}" in said
        assert "hidden" not in said or setting.name == "ENV_FILE"
        assert len(said.splitlines()) == 1
        assert len(said) < 600
        return
    assert type(config) is Config
    value = getattr(config, setting.name.lower(), None)
    assert not isinstance(value, str) or (value == value.strip() and value.isprintable())
    if not text.strip() and setting.name not in ("DATA_DIR", "SECRET_KEY", "PUBLIC_URL"):
        assert value == getattr(load(tmp_path), setting.name.lower(), None)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("HTTPS://Hooks.Example.com/", "https://hooks.example.com"),
        ("https://hooks.example.com:443", "https://hooks.example.com"),
        ("http://hooks.example.com:80/", "http://hooks.example.com"),
        (" http://[::1]:8000\n", "http://[::1]:8000"),
        ("https://hooks.example.com.", "https://hooks.example.com"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example:8443", "https://xn--bcher-kva.example:8443"),
    ],
)
def test_the_address_of_people_is_kept_in_its_plain_form(tmp_path: Path, given: str, taken: str):
    assert load(tmp_path, PUBLIC_URL=given).public_url == taken


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://example.com/hooks", "a name of its own"),
        ("https://", "give an address such as"),
        ("https://a b.example.com", "give an address such as"),
        ("ftp://example.com", "such as https"),
        ("https://example.com:99999", "give an address"),
        ("https://example.com:0", "give an address"),
        ("https://example.com?x=1", "leave out what begins"),
        ("https://u:p@h.de", "leave out user"),
        ("https://example.com/#x", "leave out what begins with"),
        ("https://аpple.example", "xn--"),
        ("https:/example.com", "give an address"),
        ("https://exam!ple.com", "no name"),
    ],
)
def test_an_address_that_would_lead_nowhere_is_refused(tmp_path: Path, given: str, words: str):
    with pytest.raises(SettingError, match="PORTAL_PUBLIC_URL") as caught:
        load(tmp_path, PUBLIC_URL=given)
    assert words in str(caught.value)


def test_cookies_are_as_secure_as_the_address_of_people(tmp_path: Path):
    assert not load(tmp_path).secure_cookies
    assert load(tmp_path, PUBLIC_URL="https://hooks.example.com").secure_cookies
    plain = {"PUBLIC_URL": "https://hooks.example.com", "SECURE_COOKIES": "0"}
    assert not load(tmp_path, **plain).secure_cookies
    for address in ("", "http://hooks.example.com"):
        with pytest.raises(SettingError, match="nobody could sign in"):
            load(tmp_path, PUBLIC_URL=address, SECURE_COOKIES="1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:///portal.db"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "postgresql://u@h:x/p"),
        ("DATABASE_URL", "postgresql://u@h"),
        ("REDIS_URL", "redis://h/queue"),
        ("REDIS_URL", "redis://h:99999/0"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "unix://"),
        ("RETENTION_CRON", "0 0 31 2 *"),
        ("RETENTION_CRON", "* * * * * *"),
        ("DATABASE_URL", "sqlite:////tmp/portal.db?mode=ro"),
        ("DATA_DIR", "~nobody-of-this-name/x"),
        ("DATA_DIR", "~/portal"),
        ("REDIS_URL", "redis://127.0.0.1/0?socket_timeout=abc"),
        ("REDIS_URL", "redis://127.0.0.1?db=x"),
        ("REDIS_URL", "redis://127.0.0.1?foo=bar"),
        ("RETRY_SCHEDULE", "1 ٣"),
        ("HOST", "0.0.0.0:8000"),
        ("HOSTS", "portal.internal, a..b"),
    ],
)
def test_what_would_fail_later_is_refused_at_the_start(tmp_path: Path, name: str, value: str):
    with pytest.raises(SettingError, match=f"PORTAL_{name}"):
        load(tmp_path, **{name: value})


@pytest.mark.parametrize(
    "address", ["postgresql://u@h/p?password=hidden&sslmode=x y", "mysql://u:hidden@h/p"]
)
def test_a_password_of_a_database_is_not_in_the_sentence(tmp_path: Path, address: str):
    with pytest.raises(SettingError, match="PORTAL_DATABASE_URL") as caught:
        load(tmp_path, DATABASE_URL=address.replace("x y", "x\ty"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("DATABASE_URL", "sqlite:////whole/path or postgresql://user:password@host/name address"),
        ("SMTP_URL", "smtp://user:password@host:587 or smtps://user:password@host:465"),
    ],
)
def test_the_example_of_an_address_is_whole(tmp_path: Path, name: str, example: str):
    for wrong in ("ftp://u:hidden@h/p", "mysql://h/p"):
        with pytest.raises(SettingError) as caught:
            load(tmp_path, **{name: wrong})
        assert example in str(caught.value)
        assert "hidden" not in str(caught.value)


def test_a_secret_key_is_never_shown(tmp_path: Path):
    with pytest.raises(SettingError) as caught:
        load(tmp_path, SECRET_KEY="'hidden hidden hidden hidden hidden'")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "is_known"),
    [
        ("Europe/Berlin", True),
        (":Europe/Berlin", True),
        ("UTC", True),
        ("", True),
        ("EST5EDT", True),
        ("CET-1CEST,M3.5.0,M10.5.0/3", True),
        ("<+03>-3", True),
        ("Europe/Belin", False),
        ("Berlin", False),
        ("/nowhere", False),
        ("+02:00", False),
    ],
)
def test_a_zone_that_the_clock_would_take_for_utc_is_refused(
    tmp_path: Path, zone: str, is_known: bool
):
    given = {"PORTAL_DATA_DIR": str(tmp_path), "TZ": zone}
    if is_known:
        load_config(given, first_start=True)
    else:
        with pytest.raises(SettingError, match="TZ="):
            load_config(given, first_start=True)
