"""Liquid in parameters, headers and bodies, bounded: merchants write the templates.

python-liquid limits loops, nesting and output. What it leaves open is closed here: each filter's
input and result are bounded, and so is the work of all filters of one rendering.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sized
from typing import Any

from liquid import BoundTemplate, Environment, Undefined
from liquid.exceptions import LiquidError, ResourceLimitError

from portal.strict_json import dump

MAX_OUTPUT = 1024 * 1024
"""Bytes that one rendering may make."""
MAX_FILTER_WORK = 8 * 1024 * 1024
"""Characters that all filters of one rendering may make together."""
MAX_ITEMS = 10_000
MAX_NUMBER_BITS = 1_024

_work = threading.local()


class TemplateFailed(Exception):
    """The template cannot be parsed or rendered; the message says where and why."""


class _Bounded(Environment):
    block_nesting_limit = 20
    context_depth_limit = 20
    loop_iteration_limit = 5_000
    local_namespace_limit = MAX_OUTPUT
    output_stream_limit = MAX_OUTPUT


def is_template(text: str) -> bool:
    """Whether the text holds Liquid at all."""
    return "{{" in text or "{%" in text


@functools.lru_cache(maxsize=2_048)
def compile_template(text: str) -> BoundTemplate:
    """The parsed template; kept, since a webhook renders the same one for every event.

    Raises TemplateFailed with the place of the error.
    """
    try:
        return _environment().from_string(text)
    except (LiquidError, RecursionError, ValueError, OverflowError) as error:
        raise TemplateFailed(_sentence(error)) from None


def render(text: str, event: dict[str, Any]) -> str:
    """The text with its Liquid filled from `event`. Raises TemplateFailed."""
    if not is_template(text):
        return text
    template = compile_template(text)
    _work.left = MAX_FILTER_WORK
    try:
        return str(template.render(event=event))
    except (LiquidError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise TemplateFailed(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, ResourceLimitError):
        return f"the template does too much: {error.message}"
    if isinstance(error, LiquidError):
        line = error.token.start_index if error.token is not None else None
        place = f" (at character {line + 1})" if line is not None else ""
        return f"{error.message}{place}"
    return f"the template cannot be filled: {error}"


def _json(value: object) -> str:
    return "null" if isinstance(value, Undefined) else dump(value)


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = _Bounded()
    for name in ("include", "render", "extends", "block", "macro", "call"):
        environment.tags.pop(name, None)
    environment.filters["json"] = _json
    for name, function in environment.filters.items():
        environment.filters[name] = _bounded(name, function)
    return environment


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, Sized) and not isinstance(value, str) and len(value) > MAX_ITEMS:
                raise _too_much(f"{name} takes at most {MAX_ITEMS:,} items")
        if name in _COSTLY:
            _COSTLY[name](*args)
        result = function(*args, **kwargs)
        _spend(name, result)
        return result

    return call


def _spend(name: str, result: Any) -> None:
    if isinstance(result, bool):
        return
    if isinstance(result, int):
        if result.bit_length() > MAX_NUMBER_BITS:
            raise _too_much(f"{name} made a number that is too large")
        return
    size = len(result) if isinstance(result, Sized) else 1
    _work.left = getattr(_work, "left", MAX_FILTER_WORK) - size
    if size > MAX_OUTPUT or _work.left < 0:
        raise _too_much(f"{name} made too much text")


def _too_much(message: str) -> ResourceLimitError:
    return ResourceLimitError(message, token=None)


def _check_replace(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    hits = text.count(old) if old else len(text) + 1
    if hits * len(new) > MAX_OUTPUT:
        raise _too_much("replace would make too much text")


def _check_join(items: Any, separator: Any = " ", *_: Any) -> None:
    count = len(items) if isinstance(items, Sized) else 1
    if count * len(str(separator)) > MAX_OUTPUT:
        raise _too_much("join would make too much text")


def _check_date(_moment: Any, pattern: Any = "", *_: Any) -> None:
    # strftime pads to any width that a pattern asks for: "%999999999d".
    if len(str(pattern)) > 200 or re.search(r"%[^A-Za-z%]*\d{3}", str(pattern)):
        raise _too_much("date takes a pattern of at most 200 characters without wide padding")


_COSTLY: dict[str, Callable[..., None]] = {
    "replace": _check_replace, "join": _check_join, "date": _check_date,
}
