"""Bounded reading of configurations and records: JSON, TOML and typed values.

Files can be damaged or untrusted. File size, nesting depth, numbers and texts are therefore limited, and every value is
checked against a type and a range. An error is one line with the file, the key, the value and the allowed values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from iccld.errors import InputError, first_line
from iccld.escaping import shortened
from iccld.files import AnyPath, printable, read_bounded

T = TypeVar("T")

_DEPTH, _MANY, _LARGEST = 32, 100_000, 2**63
_LONGEST_TEXT, _LONGEST_KEY = 1 << 16, 4096


@dataclasses.dataclass(frozen=True)
class Range:
    """Allowed range of a number, including both ends, for ``typing.Annotated``."""

    low: float
    high: float


_ANY_NUMBER = Range(-_LARGEST, _LARGEST - 1)


@dataclasses.dataclass(frozen=True)
class Form:
    """Test that a text must pass, for ``typing.Annotated``. ``words`` describes the allowed texts."""

    allows: Callable[[str], bool]
    words: str


@dataclasses.dataclass(frozen=True)
class Length:
    """Maximum number of characters of a text, or of entries of a list or table, for ``typing.Annotated``."""

    most: int


def read_json(path: AnyPath, *, limit: int = 4_000_000, **options: Any) -> Any:
    """Reads a JSON file of at most ``limit`` bytes with the ``options`` of ``parse_json``.

    Raises ``InputError`` if the file is missing, is too large, is not valid JSON or exceeds a bound of this module.
    """
    return parse_json(read_bounded(path, limit), printable(str(path)), **options)


def parse_json(
    data: str | bytes,
    where: str,
    *,
    longest_text: int = _LONGEST_TEXT,
    remedy: str = "copy or write it again",
) -> Any:
    """Parses JSON whose strings have at most ``longest_text`` characters.

    Raises ``InputError`` if ``data`` is not valid JSON or exceeds a bound. The message starts with ``where`` and ends
    with ``remedy``.
    """
    with _parsing(f"{where}: is not JSON", remedy):
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_without_twins)
        _check_bounds(value, longest_text)
    return value


def read_toml(path: AnyPath) -> dict[str, Any]:
    """Reads a TOML file. Raises ``InputError`` if the file is missing, is not valid TOML or exceeds a bound."""
    data = read_bounded(path, 1_000_000)
    with _parsing(f"{printable(str(path))}: is not valid TOML", "mend that line"):
        text = data.decode("utf-8-sig")
        # Python's TOML parser needs time quadratic in the number of parts of a dotted key. Very long keys are rejected.
        if any(part.count(".") > 200 for part in re.split(r"[=,\n]", text)):
            raise ValueError("a key of more than 200 parts")
        value = tomllib.loads(text)
        _check_bounds(value, _LONGEST_TEXT)
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object as a dict. Raises ``ValueError`` if a key occurs twice, which is ambiguous."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


@contextlib.contextmanager
def _parsing(problem: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (RecursionError, ValueError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise InputError(f"{problem} ({why}); {remedy}") from error


def reason(error: Exception, path: AnyPath) -> str:
    """Returns the first line of an error's message without the file name at its start, for use in another message."""
    return first_line(error).removeprefix(f"{printable(str(path))}: ")


def build(kind: type[T], value: object, where: str, *, thing: str = "key", others: bool = False) -> T:
    """Builds an instance of a dataclass from plain values by field name. Fields with a default may be missing.

    The types of fields can be bool, int, float, str, Path, ``None``, Literal, unions, tuples, lists, mappings with text
    keys, and dataclasses whose fields have such types. A bool is not accepted as an int. ``Annotated`` with ``Range``,
    ``Form`` or ``Length`` limits values.

    Args:
        kind: The dataclass.
        value: Mapping of field names to values.
        where: Name of the file or object, with which error messages start.
        thing: Word for a field in error messages.
        others: Whether unknown fields are ignored instead of refused.

    Raises:
        InputError: A field is missing or unknown, or a value has a wrong type or is out of range.
    """
    built: T = _Reader(thing, others).table(kind, value, where)
    return built


def typed(hint: Any, value: Any, where: str) -> Any:
    """Checks the type of a value as ``build`` does, and returns the value. For a tuple type, a list becomes a tuple."""
    return _Reader("key", others=False).value(hint, value, where)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Converter of parsed documents to typed values. See ``build`` for ``thing`` and ``others``."""

    thing: str
    others: bool

    def table(self, kind: Any, value: object, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {shortened(value)} must be a table of values")
        hints, required = _fields(kind)
        of_kind = "" if kind.__name__.startswith("_") else f" of {kind.__name__}"
        unknown = [] if self.others else [key for key in value if key not in hints]
        if unknown:
            near = difflib.get_close_matches(str(unknown[0])[:100], hints, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}: unknown {self.thing} {shortened(unknown[0])}{of_kind}{hint}")
        missing = [name for name in required if name not in value]
        if missing:
            raise InputError(f"{where}: {self.thing} {missing[0]!r}{of_kind} is missing")
        known = [name for name in hints if name in value]
        return kind(**{name: self.value(hints[name], value[name], f"{where}: {name}") for name in known})

    def value(self, hint: Any, value: Any, where: str) -> Any:
        if dataclasses.is_dataclass(hint):
            return self.table(hint, value, where)
        plain, limits = _split(hint)
        origin, arguments = get_origin(plain), get_args(plain)
        if origin in (Union, types.UnionType):
            return self._choose(hint, value, where)
        if not _fits(plain, value, limits):
            raise InputError(f"{where} = {shortened(value)} must be {_words(hint)}")
        if origin in (tuple, list, Sequence):
            hints = arguments if _is_fixed(plain) else arguments[:1] * len(value)
            pairs = enumerate(zip(hints, value, strict=True))
            items = (self.value(hint, item, f"{where}[{index}]") for index, (hint, item) in pairs)
            return list(items) if origin is list else tuple(items)
        if origin in (dict, Mapping):
            keys = [self.value(arguments[0], key, where) for key in value]
            items = (self.value(arguments[1], value[key], f"{where}: {shortened(key)}") for key in value)
            return dict(zip(keys, items, strict=True))
        return value

    def _choose(self, hint: Any, value: Any, where: str) -> Any:
        refusal: InputError | None = None
        for choice in get_args(_split(hint)[0]):
            try:
                return self.value(choice, value, where)
            except InputError as error:
                # For a table, the error of the dataclass is more precise than a list of the allowed types.
                if isinstance(value, Mapping) and dataclasses.is_dataclass(choice):
                    refusal = error
        raise refusal or InputError(f"{where} = {shortened(value)} must be {_words(hint)}")


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the types of a dataclass's fields by name, and the names of the fields without a default."""
    fields, hints = dataclasses.fields(kind), get_type_hints(kind, include_extras=True)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    return {f.name: hints[f.name] for f in fields}, required


def _split(hint: Any) -> tuple[Any, Sequence[Any]]:
    """Returns ``T`` and the metadata of ``Annotated[T, …]``. Any other type is returned with empty metadata."""
    if get_origin(hint) is Annotated:
        plain, *annotations = get_args(hint)
        return plain, annotations
    return hint, ()


def _is_fixed(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[-1] is not Ellipsis


def _fits(hint: Any, value: Any, limits: Sequence[Any]) -> bool:
    """Returns whether a value has the type ``hint``, which is not a union, and is within ``limits``.

    The items of lists and tables are not checked.
    """
    origin = get_origin(hint) or hint
    if origin is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if origin in (None, types.NoneType):
        return value is None
    if origin in (bool, Path):
        return isinstance(value, origin)
    if origin in (int, float):
        limit = next((x for x in limits if isinstance(x, Range)), _ANY_NUMBER)
        is_number = isinstance(value, int if origin is int else int | float) and not isinstance(value, bool)
        return is_number and limit.low <= value <= limit.high
    kind: Any = str if origin is str else Mapping if origin in (dict, Mapping) else (list, tuple)
    default = _LONGEST_KEY if origin is str else _MANY
    most = next((x.most for x in limits if isinstance(x, Length)), default)
    fits = isinstance(value, kind) and len(value) <= most
    fits = fits and all(x.allows(value) for x in limits if isinstance(x, Form))
    return fits and not (_is_fixed(hint) and len(value) != len(get_args(hint)))


def _words(hint: Any) -> str:
    """Returns a description of the values that a type allows, for messages."""
    hint, limits = _split(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    span = next((_span(x) for x in limits if isinstance(x, Range)), "")
    most = next((f" of at most {x.most}" for x in limits if isinstance(x, Length)), "")
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(choice) for choice in arguments)
    if _is_fixed(hint):
        return f"a list of {len(arguments)}: {', '.join(dict.fromkeys(map(_words, arguments)))}"
    if origin in (tuple, list, Sequence):
        return f"a list{most}, each {_words(arguments[0])}"
    plain = {bool: "true or false", int: f"a whole number{span}", float: f"a number{span}", Path: "a path"}
    form = next((x.words for x in limits if isinstance(x, Form)), "text")
    plain |= {str: f"text{most} characters" if most else form, type(None): "null"}
    return plain.get(hint, "a table of values")


def _span(limit: Range) -> str:
    if limit.high < 10**9:
        return f" from {limit.low:g} to {limit.high:.10g}"
    return " above 0" if 0 < limit.low < 1e-9 else f" of {limit.low:g} or more"


def _check_bounds(value: Any, longest_text: int, depth: int = _DEPTH) -> None:
    """Raises ``ValueError`` if parsed JSON or TOML exceeds a limit of this module."""
    if isinstance(value, dict):
        for key in value:
            _check_bounds(key, _LONGEST_KEY)
        value = list(value.values())
    if isinstance(value, list):
        if not depth:
            raise ValueError(f"nested too deeply: more than {_DEPTH} levels")
        for item in value:
            _check_bounds(item, longest_text, depth - 1)
    elif isinstance(value, str):
        if len(value) > longest_text:
            raise ValueError(f"a text of {len(value)} characters; {longest_text} are the most")
        if re.search("[\0\ud800-\udfff]", value):
            raise ValueError("a text holds a NUL or half of a pair of UTF-16")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    elif isinstance(value, int) and abs(value) >= 2 * _LARGEST:
        raise ValueError("a number has more than 64 bits")
