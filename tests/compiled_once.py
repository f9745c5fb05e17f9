"""Every test makes a portal of its own, and all of them compile the same addresses, templates and
statements: here each is compiled once in a process. That is most of what a test would cost."""

from __future__ import annotations

from functools import cache
from types import CodeType, MethodType
from typing import Any

import pytest
import redis.utils
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache
from werkzeug.routing import Rule

from portal import application


def patch_in(patch: pytest.MonkeyPatch) -> None:
    """Have all portals that this process makes share what they compile or read."""
    _share_addresses(patch)
    patch.setattr(Flask, "jinja_options", {"bytecode_cache": _Templates()})
    _share_statements(patch)
    # Each client of Redis reads in the installed files which version it is.
    patch.setattr(redis.utils, "get_lib_version", cache(redis.utils.get_lib_version))


def _share_addresses(patch: pytest.MonkeyPatch) -> None:
    compile_rule = Rule.compile
    made: dict[object, Rule] = {}

    def once(rule: Rule) -> None:
        key = (rule.rule, repr(rule.defaults), rule.subdomain, rule.host, rule.merge_slashes)
        if (alike := made.get(key)) is None:
            compile_rule(rule)
            made[key] = rule
            return
        for part in ("arguments", "_parts", "_trace", "_converters"):
            setattr(rule, part, getattr(alike, part))
        for builder in ("_build", "_build_unknown"):
            setattr(rule, builder, MethodType(getattr(alike, builder).__func__, rule))

    patch.setattr(Rule, "compile", once)


class _Templates(BytecodeCache):
    def __init__(self) -> None:
        self._made: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._made.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._made[bucket.key, bucket.checksum] = bucket.code


def _share_statements(patch: pytest.MonkeyPatch) -> None:
    # An engine looks for a statement under its own dialect; those of one class are alike here.
    patch.setattr(DefaultDialect, "__eq__", lambda self, other: type(self) is type(other))
    patch.setattr(DefaultDialect, "__hash__", lambda self: hash(type(self)))
    made: LRUCache[Any, Any] = LRUCache(3_000)
    settings_of = application.engine_settings

    def sharing(database_url: str, threads: int) -> dict[str, Any]:
        return settings_of(database_url, threads) | {"execution_options": {"compiled_cache": made}}

    patch.setattr(application, "engine_settings", sharing)
