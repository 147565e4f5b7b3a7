"""Writes each download of a file into the audit log once, though it is read in many parts."""

from collections import OrderedDict

from schemas.api.points import PointRead
from vdrd.catalog import audit
from vdrd.catalog.database import Catalog
from vdrd.server.accounts import Caller
from vdrd.server.clock import Clock

_REMEMBERED_MAX = 1000
_TEXT_MAX = 500


class Downloads:
    """Downloads under way, by session, point and path. A part that does not follow the last one is a new
    one."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._ends: OrderedDict[tuple[bytes, str, str], int] = OrderedDict()

    async def note(self, caller: Caller, request: PointRead, length: int) -> None:
        """A part was read."""
        key = (caller.session_hash, request.id, request.path)
        is_next = self._ends.pop(key, None) == request.offset
        self._ends[key] = request.offset + length
        while len(self._ends) > _REMEMBERED_MAX:
            self._ends.popitem(last=False)
        if is_next:
            return
        await self._catalog.write(
            audit.add,
            now_ms=self._clock(),
            tenant_id=caller.tenant_id,
            user_name=caller.name,
            address=caller.address[:_TEXT_MAX],
            action="point.read",
            target=f"id={request.id} path={request.path} offset={request.offset}"[:_TEXT_MAX],
            state="ok",
            text="",
        )
