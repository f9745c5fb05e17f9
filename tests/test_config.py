"""A setting that cannot be used stops the start with a sentence that names it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from portal.config import SettingError, load_config


def load(tmp_path: Path, **settings: str):
    return load_config(
        {"PORTAL_DATA_DIR": str(tmp_path)} | {f"PORTAL_{k}": v for k, v in settings.items()}
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
        ("PORT", "0"), ("PORT", "99999"), ("PORT", "http"), ("EGRESS_ALLOW", "10.0.0.1/8"),
        ("EGRESS_ALLOW", "intranet"), ("RETRY_SCHEDULE", "5 x"),
        ("RETRY_SCHEDULE", "-1"), ("DATABASE_URL", "mysql://a/b"), ("REDIS_URL", "localhost"),
        ("SECRET_KEY", "short"), ("LOG_LEVEL", "LOUD"), ("PUBLIC_URL", "hooks.example.com"),
        ("RETENTION_CRON", "at night"), ("SECURE_COOKIES", "maybe"), ("PAYLOAD_DAYS", "61"),
        ("SMTP_URL", "mail.example.com"), ("SMTP_URL", "http://mail.example.com"),
        ("SMTP_URL", "smtp://"), ("SMTP_URL", "smtp://mail.example.com:99999"),
        ("SMTP_URL", "smtp://:secret@mail.example.com"), ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "a@example.com\nBcc: b@example.com"),
        ("TIMEOUT_SECONDS", "-1"), ("NO_SUCH_SETTING", "1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str):
    with pytest.raises(SettingError, match=f"PORTAL_{name}"):
        load(tmp_path, **{name: value})


def test_the_secret_key_is_made_once_and_kept_to_its_owner(tmp_path: Path):
    first = load(tmp_path).secret_keys
    assert load(tmp_path).secret_keys == first
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert len(first[0]) >= 32


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="PORTAL_DATA_DIR"):
        load(tmp_path / "file" / "below")


def test_a_deep_directory_gets_a_socket_that_is_short_enough(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    config = load(deep)
    assert len(os.fsencode(config.redis_url.removeprefix("unix://"))) <= 107
    assert load(deep).redis_url == config.redis_url


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
