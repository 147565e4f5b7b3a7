"""Query, path and body into the request struct of a call, strictly: an unknown or ill-typed field is an error
that names it.

Knows structs and plain values, no framework.
"""

import difflib
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT

from console.rest.problem import RequestUnreadable
from schemas import api


def path_fields(path: str) -> tuple[str, ...]:
    """Names in braces of an endpoint's path."""
    return tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))


@cache
def without(request: type[api.Message], names: tuple[str, ...], suffix: str) -> type[api.Message] | None:
    """The request without some fields, as a struct of its own for the documentation; None if nothing is
    left."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(request):
        if field.name in names:
            continue
        if field.default is not NODEFAULT:
            fields.append((field.name, field.type, field.default))
        elif field.default_factory is not NODEFAULT:
            fields.append((field.name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, field.type))
    if not fields:
        return None
    if len(fields) == len(msgspec.structs.fields(request)):
        return request
    made = msgspec.defstruct(
        request.__name__ + suffix, fields, bases=(api.Message,), frozen=True, kw_only=True
    )
    made.__doc__ = request.__doc__
    return made  # type: ignore[return-value]


@cache
def _names(request: type[api.Message]) -> dict[str, bool]:
    """Fields of a request, and whether each takes many values."""
    return {field.name: _takes_many(field.type) for field in msgspec.structs.fields(request)}


def _takes_many(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Annotated:
        return _takes_many(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return any(_takes_many(part) for part in get_args(kind))
    return origin is list or kind is list


def from_query(
    request: type[api.Message], path: Mapping[str, str], query: Mapping[str, Sequence[str]]
) -> api.Message:
    """The request of a GET or DELETE. `query` maps each name to all values given."""
    known = _names(request)
    values: dict[str, object] = {}
    for name, given in query.items():
        _check_known(name, known, path)
        if known[name]:
            values[name] = list(given)
        elif len(given) != 1:
            raise RequestUnreadable(what=f"{name} was given {len(given)} times")
        elif given[0] != "":
            values[name] = given[0]
    return _converted(request, {**values, **path}, strict=False)


def from_body(request: type[api.Message], path: Mapping[str, str], body: bytes) -> api.Message:
    """The request of a POST or PATCH."""
    try:
        values = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestUnreadable(what=f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise RequestUnreadable(what="the body is not a JSON object")
    known = _names(request)
    for name in values:
        _check_known(name, known, path)
    return _converted(request, {**values, **path}, strict=True)


def _check_known(name: str, known: Mapping[str, bool], path: Mapping[str, str]) -> None:
    if name in known and name not in path:
        return
    near = difflib.get_close_matches(name, [field for field in known if field not in path], 1)
    raise RequestUnreadable(what=f"unknown field {name}{f'. did you mean {near[0]}?' if near else ''}")


def _converted(request: type[api.Message], values: dict[str, object], *, strict: bool) -> api.Message:
    try:
        return msgspec.convert(values, request, strict=strict)
    except msgspec.ValidationError as error:
        raise RequestUnreadable(what=str(error)) from error
