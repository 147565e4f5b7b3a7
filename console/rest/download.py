"""`GET /points/{id}/download?path=P`: a file of a point as it is. All else of the API is JSON and in the
table."""

from quart import Blueprint, Response, request
from quart_schema import hide

from console.download import file_response
from console.rest.endpoints import bearer, failed
from console.rest.problem import RequestUnreadable
from console.rest.table import PREFIX
from vdrd.model.errors import SessionEnded, VdrError

blueprint = Blueprint("rest_download", __name__, url_prefix=PREFIX)
blueprint.register_error_handler(VdrError, failed)


@blueprint.get("/points/<point_id>/download")
@hide
async def download(point_id: str) -> Response:
    """The file's bytes, or a problem document."""
    token = bearer()
    if not token:
        raise SessionEnded
    path = request.args.get("path", "")
    if not path:
        raise RequestUnreadable(what="path is missing: name the file as the listing of the point gives it")
    return await file_response(point_id, path, token)
