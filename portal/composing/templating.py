"""Liquid in parameters, headers and bodies, bounded: merchants write the templates.

python-liquid limits loops, nesting and output. What it leaves open is closed here: each filter's
input and result are bounded, and so is the work of all filters of one rendering. What is printed,
by the template or inside of a filter, is printed as portal.composing.printing has it; numbers are
decimals, and computed with by portal.composing.arithmetic; times are in UTC.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sized
from decimal import Decimal
from typing import Any, TextIO

from cachetools import LRUCache
from liquid import BoundTemplate, Environment, RenderContext, TokenStream
from liquid.ast import Node
from liquid.builtin.expressions.primitive import FloatLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.cycle_tag import CycleNode, CycleTag
from liquid.builtin.tags.echo_tag import EchoNode, EchoTag
from liquid.exceptions import (
    FilterArgumentError,
    FilterError,
    FilterItemTypeError,
    FilterValueError,
    LiquidError,
    LiquidTypeError,
    ResourceLimitError,
)
from liquid.expression import Expression
from liquid.output import LimitedStringIO

from portal.composing import arithmetic, dates
from portal.composing.cell_limits import is_template
from portal.composing.printing import as_json, as_text, printed

MAX_OUTPUT = 1024 * 1024
"""Bytes that one rendering may make."""
MAX_FILTER_WORK = 8 * 1024 * 1024
"""Characters that all filters of one rendering may make together."""
MAX_ITEMS = 10_000
MAX_KEPT = 512 * 1024
"""Characters of templates that are kept as they were parsed."""

_WHATEVER = (
    LiquidError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What templates and filters raise that meet what anybody wrote, and what anybody's records hold;
python-liquid makes errors of its own of a part of it. (That there is no more memory is for the cell
to say, and ends it.)"""
_OF_VALUES = (
    FilterError,
    FilterArgumentError,
    FilterItemTypeError,
    FilterValueError,
    LiquidTypeError,
)
"""What the values of a record bring about, more likely than the template."""
_work = threading.local()


class TemplateFailed(Exception):
    """The template cannot be parsed or rendered; the message says where, why and what to do, as a
    sentence without its full stop."""


class _Buffer(LimitedStringIO):
    """Keeps line breaks as they are written; python-liquid's own makes LF of CR and CR LF."""

    def __init__(self, limit: int):
        super().__init__(limit, newline="")


class _Context(RenderContext):
    def get_buffer(self, buf: TextIO | None = None) -> _Buffer:
        return _Buffer(MAX_OUTPUT - getattr(buf, "size", 0))


class _Template(BoundTemplate):
    context_class = _Context
    size = 0
    """Characters of its text."""

    def _get_buffer(self) -> _Buffer:
        return _Buffer(MAX_OUTPUT)


class _Bounded(Environment):
    template_class = _Template
    block_nesting_limit = 20
    context_depth_limit = 20
    loop_iteration_limit = 5_000
    local_namespace_limit = MAX_OUTPUT
    output_stream_limit = MAX_OUTPUT


def _no_templates() -> LRUCache[str, _Template]:
    return LRUCache(MAX_KEPT, getsizeof=lambda template: template.size)


class _Kept:
    """Templates as they were parsed. They are a cell's, which knows of no application."""

    def __init__(self) -> None:
        self.templates = _no_templates()


_kept = _Kept()


def forget_templates() -> None:
    """Keep no template any more as it was parsed."""
    _kept.templates = _no_templates()


def compile_template(text: str) -> _Template:
    """The parsed template; kept, since a webhook renders the same one for every event, as far as a
    cell's memory allows: a parsed one takes many times its text.

    Raises TemplateFailed with the place of the error.
    """
    if (known := _kept.templates.get(text)) is not None:
        return known
    try:
        template = _environment().from_string(text)
        assert isinstance(template, _Template)
        template.size = len(text)
        _read_as_decimals(template)
        if template.size <= MAX_KEPT:
            _kept.templates[text] = template
        return template
    except _WHATEVER as error:
        raise TemplateFailed(_sentence(error)) from None


def _read_as_decimals(template: BoundTemplate) -> None:
    """Make decimals of the fractions in a template: 0.1 as a double is not what a record's is."""
    context = RenderContext(template)
    nodes, expressions = [*template.nodes], list[Expression]()
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children(context))
        expressions.extend(node.expressions())
    while expressions:
        expression = expressions.pop()
        expressions.extend(expression.children())
        if isinstance(expression, FloatLiteral):
            literal: Any = expression
            literal.value = Decimal(expression.token.value)


def render(text: str, event: dict[str, Any]) -> str:
    """The text with its Liquid filled from `event`. Raises TemplateFailed."""
    if not is_template(text):
        return text
    template = compile_template(text)
    _work.left = MAX_FILTER_WORK
    try:
        text = str(template.render(event=event))
        text.encode()
    except _WHATEVER as error:
        raise TemplateFailed(_sentence(error)) from None
    return text


def _sentence(error: Exception) -> str:
    if isinstance(error, ResourceLimitError):
        return f"the template does too much: {error.message}"
    if isinstance(error, RecursionError):
        return "the template is nested too deep; make it simpler"
    if isinstance(error, LiquidError):
        start = error.token.start_index if error.token is not None else None
        where = f" (at character {start + 1})" if start is not None else ""
        remedy = (
            "; guard it with “if” or “default”, for records that hold something else there"
            if isinstance(error, _OF_VALUES)
            else ""
        )
        return f"{error.message}{where}{remedy}"
    return f"the template cannot be filled with this record ({type(error).__name__}: {error})"


class _Printed(Expression):
    """An expression as the text that is printed of it."""

    def __init__(self, expression: Expression):
        super().__init__(expression.token)
        self._expression = expression

    def __str__(self) -> str:
        return str(self._expression)

    def evaluate(self, context: RenderContext) -> object:
        return printed(self._expression.evaluate(context))

    def children(self) -> list[Expression]:
        return [self._expression]


class _Output(Output):
    def parse(self, stream: TokenStream) -> OutputNode:
        node = super().parse(stream)
        node.expression = _Printed(node.expression)
        return node


class _Echo(EchoTag):
    def parse(self, stream: TokenStream) -> Node:
        node = super().parse(stream)
        assert isinstance(node, EchoNode)
        node.expression = _Printed(node.expression)
        return node


class _Cycle(CycleTag):
    def parse(self, stream: TokenStream) -> CycleNode:
        node = super().parse(stream)
        node.args = [_Printed(argument) for argument in node.args]
        return node


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = _Bounded()
    for name in ("include", "render", "extends", "block", "macro", "call"):
        environment.tags.pop(name, None)
    for tag in (_Output, _Echo, _Cycle):
        environment.add_tag(tag)
    environment.filters.update(arithmetic.FILTERS)
    environment.filters["json"] = as_json
    environment.filters["date"] = dates.date
    for name, function in environment.filters.items():
        environment.filters[name] = _bounded(name, function)
    return environment


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, Sized) and not isinstance(value, str) and len(value) > MAX_ITEMS:
                raise _too_much(f"{name} takes at most {MAX_ITEMS:,} items")
        args = _as_printed(name, args)
        if name in _COSTLY:
            _COSTLY[name](*args)
        try:
            result = function(*args, **kwargs)
        except _WHATEVER as error:
            if isinstance(error, LiquidError) and not isinstance(error.__cause__, TypeError):
                raise
            raise FilterError(f"{name} cannot work with what it was given", token=None) from None
        _spend(name, result)
        return result

    return call


def _as_printed(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if name == "join":
        return (_items(values[0]), *map(as_text, values[1:]))
    if name == "slice" and not isinstance(values[0], list | tuple | range):
        return (as_text(values[0]), *values[1:])
    return tuple(map(as_text, values)) if name in _OF_TEXT else values


def _items(value: Any) -> Any:
    """A list to be joined; lists in it stay, since they are joined as one."""
    return [_items(item) for item in value] if isinstance(value, list | tuple) else as_text(value)


def _spend(name: str, result: Any) -> None:
    if isinstance(result, bool):
        return
    if isinstance(result, int | Decimal):
        if arithmetic.digits(result) > arithmetic.MAX_DIGITS and name in arithmetic.FILTERS:
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


_OF_TEXT = frozenset(
    {
        "append",
        "capitalize",
        "downcase",
        "escape",
        "escape_once",
        "lstrip",
        "newline_to_br",
        "prepend",
        "remove",
        "remove_first",
        "remove_last",
        "replace",
        "replace_first",
        "replace_last",
        "rstrip",
        "split",
        "squish",
        "strip",
        "strip_html",
        "strip_newlines",
        "truncate",
        "truncatewords",
        "upcase",
        "url_decode",
        "url_encode",
        "base64_decode",
        "base64_encode",
        "base64_url_safe_decode",
        "base64_url_safe_encode",
    }
)
"""Filters that take what they are given as text."""
_COSTLY: dict[str, Callable[..., None]] = {
    "replace": _check_replace,
    "join": _check_join,
    "date": _check_date,
}
