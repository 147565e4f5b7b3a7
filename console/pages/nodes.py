"""Nodes: the machines that run jobs and hold storages."""

from quart import Blueprint, request

from console.context import ask
from console.pages.frame import Answer, form, go, render, signed_in
from schemas import api

blueprint = Blueprint("nodes", __name__)


@blueprint.get("/nodes")
@signed_in
async def listing() -> Answer:
    """All nodes."""
    page = await ask(api.NodeList(cursor=request.args.get("cursor")), api.NodePage)
    return await render("nodes.html", "node", nodes=page.items, next_cursor=page.next_cursor)


@blueprint.post("/nodes/<node_id>/drain")
@signed_in
async def drain(node_id: str) -> Answer:
    """Stops or resumes placing runs on a node."""
    is_draining = (await form()).get("is_draining") == "1"
    await ask(api.NodeDrain(id=node_id, is_draining=is_draining), api.NodeInfo)
    return go("/nodes", "node_draining" if is_draining else "node_resumed")
