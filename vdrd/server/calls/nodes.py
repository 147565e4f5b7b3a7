"""Calls about nodes."""

import msgspec

from schemas.api.hosts import NodeDrain, NodeGet, NodeInfo, NodeList, NodePage
from schemas.api.words import Presence
from vdrd.catalog import nodes
from vdrd.server.accounts import Caller
from vdrd.server.services import Services


def _live(services: Services, node: NodeInfo) -> NodeInfo:
    if services.peers.find(node.id) is None:
        return node
    return msgspec.structs.replace(node, presence=Presence.ONLINE)


async def list_nodes(services: Services, _caller: Caller, request: NodeList) -> NodePage:
    """Nodes by name."""
    items, cursor = await services.catalog.read(nodes.list_page, request)
    return NodePage(items=[_live(services, node) for node in items], next_cursor=cursor)


async def get_node(services: Services, _caller: Caller, request: NodeGet) -> NodeInfo:
    """One node."""
    return _live(services, await services.catalog.read(nodes.get, request.id))


async def drain_node(services: Services, _caller: Caller, request: NodeDrain) -> NodeInfo:
    """Stop or resume placing runs on a node."""
    await services.catalog.write(nodes.set_draining, request.id, request.is_draining)
    services.director.set_draining(request.id, request.is_draining)
    services.feed.publish("node", request.id)
    return _live(services, await services.catalog.read(nodes.get, request.id))


HANDLERS = {"node.list": list_nodes, "node.get": get_node, "node.drain": drain_node}
