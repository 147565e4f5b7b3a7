"""The API's reference as a page, made from the OpenAPI document. No script, no other site."""

from typing import Any

from quart import Blueprint, current_app

from console.pages.frame import Answer, render, signed_in
from console.rest.table import PREFIX

blueprint = Blueprint("reference", __name__)


def described(schema: Any) -> str:
    """A JSON schema in a few words: `string`, `list of JobSource`, `integer, 1 to 16`."""
    if not isinstance(schema, dict):
        return ""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " | ".join(described(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f'"{value}"' if isinstance(value, str) else "null" for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {described(schema.get('items', {}))}"
    if kind == "object" and "additionalProperties" in schema:
        return f"map to {described(schema['additionalProperties'])}"
    if "minimum" in schema and "maximum" in schema:
        kind += f", {schema['minimum']} to {schema['maximum']}"
    elif "format" in schema:
        kind += f" ({schema['format']})"
    return kind


@blueprint.get("/api")
@signed_in
async def show() -> Answer:
    """All operations and all structs."""
    document = current_app.extensions["QUART_SCHEMA"].openapi_provider.schema()
    tags: dict[str, list[tuple[str, str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method, path, operation))
    return await render(
        "reference.html",
        "api",
        prefix=PREFIX,
        tags=tags,
        schemas=sorted(document["components"]["schemas"].items()),
        described=described,
    )
