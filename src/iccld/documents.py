"""Reading configurations and records, within bounds: JSON, TOML, and typed values out of them.

Whatever is read may have been written by somebody else, or be damaged. Bytes, depth, digits and lengths are limited
before anything is built from a file; every value has a type and a range; what does not fit is refused in one line
that names the file, the key, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
import re
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from iccld.errors import InputError, first_line
from iccld.escaping import shortened
from iccld.files import printable, read_bounded

T = TypeVar("T")

_DEPTH = 32
_LONGEST_TEXT = 1 << 16
_LARGEST = 2**63
_PATH = 4096
_MANY = 100_000


@dataclasses.dataclass(frozen=True)
class Range:
    """Allowed numbers, both ends included; for ``typing.Annotated``."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Length:
    """Most characters of a text, or entries of a list or table; for ``typing.Annotated``."""

    most: int


def read_json(
    path: str | os.PathLike[str],
    *,
    limit: int = 4_000_000,
    longest_text: int = _LONGEST_TEXT,
    remedy: str = "copy or write it again",
) -> Any:
    """Reads a JSON file.

    Args:
        path: a regular file.
        limit: most bytes.
        longest_text: most characters of one text in it.
        remedy: what the user can do if it cannot be read.

    Raises:
        InputError: no such file, no JSON, or beyond the bounds.
    """
    return parse_json(
        read_bounded(path, limit), printable(str(path)), longest_text=longest_text, remedy=remedy
    )


def parse_json(
    data: str | bytes,
    where: str,
    *,
    longest_text: int = _LONGEST_TEXT,
    remedy: str = "copy or write it again",
) -> Any:
    """Reads JSON from memory: the metadata of a weights file or of a graph. ``where`` names it in messages.

    Raises:
        InputError: no JSON, or beyond the bounds.
    """

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=_without_twins)
        _check_bounds(value, longest_text)
    except RecursionError as error:
        raise InputError(f"{where}: is not JSON (nested too deeply); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{where}: is not JSON ({_first_line(error)}); {remedy}") from error
    return value


def read_toml(
    path: str | os.PathLike[str], *, limit: int = 1_000_000, remedy: str = "mend that line"
) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        InputError: no such file, no TOML, or beyond the bounds.
    """
    data, where = read_bounded(path, limit), printable(str(path))
    try:
        text = data.decode("utf-8-sig")
        _refuse_deep_toml(text)
        value = tomllib.loads(text)
        _check_bounds(value, _LONGEST_TEXT)
    except RecursionError as error:
        raise InputError(f"{where}: is not valid TOML (nested too deeply); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{where}: is not valid TOML ({_first_line(error)}); {remedy}") from error
    return value


def reason(error: Exception, path: str | os.PathLike[str]) -> str:
    """What an error says of a file, in one line and without the file's name, which is said already."""
    return _first_line(error).removeprefix(f"{printable(str(path))}: ")


def build(kind: type[T], value: object, where: str, *, thing: str = "key", others: bool = False) -> T:
    """Makes a dataclass of plain values, by the types of its fields; fields with a default may be left out.

    Types are bool, int, float, str, None, Literal, unions, tuples, lists, mappings by text, and dataclasses of
    these. A bool is no int and a text no number. ``Annotated`` with ``Range`` and ``Length`` says what is allowed.

    Args:
        kind: the dataclass.
        value: what was read.
        where: begins messages: the file, or what the values are of.
        thing: what a field is called in messages.
        others: leave keys aside that are no fields, instead of refusing them.

    Raises:
        InputError: a field is missing, unknown, or has another type or range.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {shortened(value)} must be a table of values")
    hints, fields, quick_checks = _fields(cast(Any, kind))
    of_kind = "" if kind.__name__.startswith("_") else f" of {kind.__name__}"
    for key in () if others else value:
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:100], fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}: unknown {thing} {shortened(key)}{of_kind}{hint}")
    for name, f in fields.items():
        if (
            name not in value
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ):
            raise InputError(f"{where}: {thing} {name!r}{of_kind} is missing")
    content: dict[str, Any] = {}
    for name in fields:
        if name in value:
            item, quick = value[name], quick_checks[name]
            # What most fields hold is seen here, without the calls that words for a refusal take.
            fits = quick is not None and quick(item)
            content[name] = (
                item if fits else typed(hints[name], item, f"{where}: {name}", thing=thing, others=others)
            )
    return kind(**content)


def typed(hint: Any, value: Any, where: str, *, thing: str = "key", others: bool = False) -> Any:
    """The value if it is of a type, as the type has it (a list becomes a tuple where one is asked for).

    Args:
        hint: see ``build``.
        value: what was read.
        where: begins messages: file and key.
        thing: what a field of a dataclass is called in messages.
        others: leave keys of dataclasses aside that are no fields.

    Raises:
        InputError: it is not.
    """
    if dataclasses.is_dataclass(hint):
        return build(cast(Any, hint), value, where, thing=thing, others=others)
    try:
        return _convert(hint, value, _Place(where, thing, others))
    except _UnfitError as error:
        raise InputError(f"{where} = {shortened(value)} must be {_words(hint)}") from error


_Quick = Callable[[Any], bool]


@functools.cache
def _fields(
    kind: type[Any],
) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]], dict[str, _Quick | None]]:
    """Types and fields by name, and checks that accept the plain ones of the right values at once."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    return hints, fields, {name: _quick_check(hints[name]) for name in fields}


def _quick_check(hint: Any) -> _Quick | None:
    bare, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    span = next((x for x in limits if isinstance(x, Range)), Range(-_LARGEST, _LARGEST - 1))
    if bare in (bool, int, float):
        kinds = (int, float) if bare is float else (bare,)
        return lambda item: type(item) in kinds and span.low <= item <= span.high
    if hint is str:
        return lambda item: type(item) is str and len(item) <= _PATH
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return lambda item: type(item) is str and item in choices
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_quick_check(part) for part in get_args(hint)]
        return lambda item: any(part is not None and part(item) for part in parts)
    if hint is type(None):
        return lambda item: item is None
    return None


class _UnfitError(ValueError):
    """A value of another type or range."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value stands, and how the tables in it are read."""

    where: str
    thing: str
    others: bool

    def typed(self, hint: Any, value: Any, within: str = "") -> Any:
        return typed(hint, value, self.where + within, thing=self.thing, others=self.others)


def _convert(hint: Any, value: Any, place: _Place) -> Any:
    limits: Sequence[Any] = ()
    if get_origin(hint) is Annotated:
        hint, *limits = get_args(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise _UnfitError
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, place)
    if hint is None or hint is type(None):
        if value is not None:
            raise _UnfitError
        return None
    if hint is bool:
        if not isinstance(value, bool):
            raise _UnfitError
    elif hint in (int, float):
        _check_number(hint, value, next((x for x in limits if isinstance(x, Range)), None))
    elif hint is str:
        _check_length(value, str, limits, _PATH)
    elif origin is tuple or origin in (list, Sequence):
        _check_length(value, (list, tuple), limits, _MANY)
        return _convert_items(origin, arguments, value, place)
    elif origin in (dict, Mapping):
        _check_length(value, Mapping, limits, _MANY)
        key_type, item_type = arguments
        return {
            _convert(key_type, key, place): place.typed(item_type, item, f": {shortened(key)}")
            for key, item in value.items()
        }
    else:
        raise AssertionError(f"no document holds a {hint}")
    return value


def _convert_union(choices: Sequence[Any], value: Any, place: _Place) -> Any:
    refusal: InputError | None = None
    for choice in choices:
        try:
            return place.typed(choice, value)
        except InputError as error:
            # Of a choice of tables, the one that was meant says what is wrong with it.
            if refusal is None or (isinstance(value, Mapping) and dataclasses.is_dataclass(choice)):
                refusal = error
    if isinstance(value, Mapping) and refusal is not None and any(map(dataclasses.is_dataclass, choices)):
        raise refusal
    raise _UnfitError


def _convert_items(origin: Any, arguments: Sequence[Any], value: Any, place: _Place) -> Any:
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        if len(value) != len(arguments):
            raise _UnfitError
        hints = list(arguments)
    else:
        hints = [arguments[0]] * len(value)
    items = (
        place.typed(hint, item, f"[{index}]")
        for index, (hint, item) in enumerate(zip(hints, value, strict=True))
    )
    return list(items) if origin is list else tuple(items)


def _check_number(kind: type, value: Any, limits: Range | None) -> None:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise _UnfitError
    low, high = (limits.low, limits.high) if limits else (-_LARGEST, _LARGEST - 1)
    if not low <= value <= high or (isinstance(value, float) and not math.isfinite(value)):
        raise _UnfitError


def _check_length(value: Any, kind: Any, limits: Sequence[Any], most: int) -> None:
    most = next((x.most for x in limits if isinstance(x, Length)), most)
    if not isinstance(value, kind) or len(value) > most:
        raise _UnfitError


def _words(hint: Any) -> str:
    """What a type allows, in words."""
    limits: Sequence[Any] = ()
    if get_origin(hint) is Annotated:
        hint, *limits = get_args(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    span = next((f" from {x.low:g} to {x.high:g}" for x in limits if isinstance(x, Range)), "")
    most = next((f" of at most {x.most}" for x in limits if isinstance(x, Length)), "")
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(choice) for choice in arguments)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        kinds = dict.fromkeys(_words(argument) for argument in arguments)
        return f"a list of {len(arguments)}: {', '.join(kinds)}"
    if origin in (tuple, list, Sequence):
        return f"a list{most}, each {_words(arguments[0])}"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return "a table of values"
    plain = {bool: "true or false", int: f"a whole number{span}", float: f"a number{span}"}
    if hint is str:
        return f"text{most} characters" if most else "text"
    return plain.get(hint, "null")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shortened(key)} stands twice in one table")
            seen.add(key)
    return table


def _check_bounds(value: Any, longest_text: int) -> None:
    """Refuses depth, digits, lengths and characters that nothing of ours has; ValueError says which."""
    level = [value]
    for _ in range(_DEPTH):
        if not level:
            return
        below: list[Any] = []
        for item in level:
            _check_item(item, longest_text)
            if isinstance(item, dict):
                for key in item:
                    _check_item(key, _PATH)
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    if level:
        raise ValueError(f"nested too deeply: more than {_DEPTH} levels")


def _check_item(item: Any, longest_text: int) -> None:
    if isinstance(item, str):
        if len(item) > longest_text:
            raise ValueError(f"a text of {len(item)} characters; {longest_text} are the most")
        if "\0" in item or re.search("[\ud800-\udfff]", item):
            raise ValueError("a text holds a character that no text has: a NUL or half of a pair of UTF-16")
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise ValueError("a number is not finite")
    elif isinstance(item, int) and abs(item) >= 2 * _LARGEST:
        raise ValueError("a number has more than 64 bits")


# Strings and comments, in which brackets and dots mean nothing.
_TOML_TEXT = re.compile(
    r'"""(?:[^\\]|\\(?:.|\Z))*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*",
    re.DOTALL,
)


def _refuse_deep_toml(text: str) -> None:
    """Refuses deep arrays and long dotted keys, which take Python's reader beyond its stack or quadratic time."""
    bare = _TOML_TEXT.sub('""', text)
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", bare):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _DEPTH:
            raise ValueError(f"nested too deeply: more than {_DEPTH} levels")
    if any(key.count(".") >= _DEPTH for key in re.split(r"[=\[\]{},\n]", bare)):
        raise ValueError(f"nested too deeply: a key of more than {_DEPTH} parts")


def _first_line(error: Exception) -> str:
    # Python's own words name a setting of the interpreter.
    return "a number of too many digits" if "integer string conversion" in str(error) else first_line(error)
