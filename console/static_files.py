"""Script, style and mark of the console, kept in memory and compressed once. They change with the program."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quart import Blueprint, Response, abort, request

_FOLDER: Final = Path(__file__).parent / "static"

blueprint = Blueprint("static_files", __name__, url_prefix="/static")


@dataclass(frozen=True, slots=True)
class _StaticFile:
    """A file as it is sent."""

    content_type: str
    plain: bytes
    packed: bytes


def _read(path: Path) -> _StaticFile:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    content = path.read_bytes()
    return _StaticFile(f"{kind}; charset=utf-8", content, gzip.compress(content, mtime=0))


_FILES: Final = {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.is_file()}

VERSION: Final = hashlib.sha256(b"".join(file.plain for file in _FILES.values())).hexdigest()[:12]
"""Part of every address that names a file, so that a new program's files are asked for anew."""


@blueprint.get("/<name>")
async def send(name: str) -> Response:
    """A file, compressed if the browser takes that."""
    file = _FILES.get(name)
    if file is None:
        abort(404)
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(file.plain, headers=headers, content_type=file.content_type)
    return Response(
        file.packed, headers={**headers, "Content-Encoding": "gzip"}, content_type=file.content_type
    )
