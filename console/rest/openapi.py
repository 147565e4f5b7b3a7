"""The OpenAPI document: quart-schema's provider, fed from the registry of calls and msgspec's own JSON
schemas.

quart-schema keeps only the outermost schema of a msgspec struct; here every struct, however deep, is a
component of its own.
"""

from typing import Any

import msgspec
from quart_schema import hide
from quart_schema.openapi import OpenAPIProvider
from werkzeug.routing.rules import Rule

from console.rest.problem import Problem
from console.rest.requests import path_fields, without
from console.rest.table import ENDPOINTS, PREFIX, Endpoint
from schemas import api

__all__ = ["Provider", "hide"]

REFERENCE = "#/components/schemas/{name}"
ENDPOINT_ATTRIBUTE = "_vdr_endpoint"

_DESCRIPTION = """Everything the console and the `vdr` command do. Log in with `POST /sessions` and send the
session token of its answer as `Authorization: Bearer TOKEN`. Lists are paged: send `next_cursor` of a page
as `cursor` to get the next one. Errors are problem documents (`application/problem+json`) that name the
thing and the remedy. A `POST` with an `Idempotency-Key` header is carried out once: the same key gives the
same answer for a day."""


class Provider(OpenAPIProvider):
    """Documents the operations of `ENDPOINTS`, nothing else."""

    def schema(self) -> dict[str, Any]:
        """The whole document."""
        document = super().schema()
        document["info"]["description"] = _DESCRIPTION
        document["servers"] = [{"url": PREFIX}]
        types: dict[str, Any] = {"Problem": Problem}
        for endpoint in ENDPOINTS:
            call = api.CALLS[endpoint.call]
            types[call.response.__name__] = call.response
            body = _body_of(endpoint)
            if body is not None:
                types[body.__name__] = body
        _, components = msgspec.json.schema_components(types.values(), ref_template=REFERENCE)
        document["components"]["schemas"] = components
        document["components"]["securitySchemes"] = {"session": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"session": []}]
        document["paths"] = dict(document["paths"])
        return document

    def generate_rules(self) -> Any:
        """Only ours, in the table's order."""
        rules = {
            getattr(self._app.view_functions[rule.endpoint], ENDPOINT_ATTRIBUTE, None): rule
            for rule in self._app.url_map.iter_rules()
        }
        return [rules[endpoint] for endpoint in ENDPOINTS if endpoint in rules]

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """One operation."""
        endpoint: Endpoint = getattr(self._app.view_functions[rule.endpoint], ENDPOINT_ATTRIBUTE)
        call = api.CALLS[endpoint.call]
        note = (
            "No session needed." if call.is_open else f"Needs `{call.permission}`." if call.permission else ""
        )
        operation: dict[str, Any] = {
            "operationId": endpoint.call.replace(".", "_"),
            "summary": call.summary,
            "description": "\n\n".join(part for part in (_first_paragraph(call.request), note) if part),
            "tags": [endpoint.tag],
            "parameters": list(_parameters(endpoint)),
            "responses": {
                str(endpoint.status): {
                    "description": _first_paragraph(call.response) or call.summary,
                    "content": {"application/json": {"schema": _reference(call.response.__name__)}},
                },
                "default": {
                    "description": "It did not work; the document says why and what to do.",
                    "content": {"application/problem+json": {"schema": _reference("Problem")}},
                },
            },
        }
        body = _body_of(endpoint)
        if body is not None:
            required = any(field.required for field in msgspec.structs.fields(body))
            operation["requestBody"] = {
                "required": required,
                "content": {"application/json": {"schema": _reference(body.__name__)}},
            }
        if call.is_open:
            operation["security"] = []
        return {endpoint.path: {endpoint.method.lower(): operation}}, {}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=name)}


def _body_of(endpoint: Endpoint) -> type[api.Message] | None:
    if endpoint.method not in ("POST", "PATCH"):
        return None
    return without(api.CALLS[endpoint.call].request, path_fields(endpoint.path), "Body")


def _parameters(endpoint: Endpoint) -> Any:
    names = path_fields(endpoint.path)
    for name in names:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if endpoint.method == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Any text of your own; carried out once per key and day.",
            "schema": {"type": "string", "maxLength": 200},
        }
    if endpoint.method in ("POST", "PATCH"):
        return
    query = without(api.CALLS[endpoint.call].request, names, "Query")
    if query is None:
        return
    _, components = msgspec.json.schema_components([query], ref_template=REFERENCE)
    properties = components[query.__name__]["properties"]
    required = components[query.__name__].get("required", [])
    for name, schema in properties.items():
        parameter = {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _inlined(schema, components),
        }
        if "description" in parameter["schema"]:
            parameter["description"] = parameter["schema"].pop("description")
        yield parameter


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    """A parameter's schema without references: parameters are plain values."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(components[schema["$ref"].rsplit("/", 1)[1]], components)
        return {key: _inlined(value, components) for key, value in schema.items() if key != "title"}
    if isinstance(schema, list):
        return [_inlined(part, components) for part in schema]
    return schema


def _first_paragraph(kind: type[api.Message]) -> str:
    text = (kind.__doc__ or "").strip().split("\n\n", 1)[0]
    return " ".join(text.split())
