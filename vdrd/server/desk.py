"""The desk at which every call of a console arrives: who asks, may they, do it, write it down.

The only place where rights are decided, for pages, REST and CLI alike.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from schemas.api.calls import CALLS, Call, CallReply, CallType
from schemas.api.sessions import Login, LoginReply
from schemas.api.values import Message
from vdrd.catalog import audit
from vdrd.catalog.accounts import Account
from vdrd.catalog.settings import TENANT_DEFAULT
from vdrd.catalog.times import from_ms
from vdrd.model.errors import BadArgument, NotAuthorised, NotFound, VdrError
from vdrd.server.accounts import Caller, Doorkeeper, who_is
from vdrd.server.calls import HANDLERS
from vdrd.server.services import Services

log = logging.getLogger(__name__)

Answerer = Callable[[Services, Caller, Any], Awaitable[Message]]

_TEXT_MAX = 500
_WITHOUT_CHANGED_PASSWORD = {"session.who_am_i", "session.change_password", "session.logout"}
"""What a user may call whose password somebody else has set."""


def target_of(request: Message) -> str:
    """What a call is about, for the audit log: names and ids, never secrets."""
    parts = []
    for field in ("name", "id", "ids", "user_name", "point_id", "host_id", "target_path", "path"):
        value = getattr(request, field, None)
        if value and value is not msgspec.UNSET:
            parts.append(f"{field}={value}")
    return " ".join(parts)[:_TEXT_MAX]


def decoded(call_type: CallType, arguments: msgspec.Raw) -> Message:
    """The request of a call. Raises BadArgument naming the field."""
    try:
        request: Message = msgspec.msgpack.decode(arguments, type=call_type.request)
    except msgspec.ValidationError as error:
        text = str(error)
        reason, _, path = text.partition(" - at `")
        field = path.rstrip("`").removeprefix("$.") or "arguments"
        raise BadArgument(field=field, reason=reason[:1].lower() + reason[1:]) from error
    except msgspec.MsgspecError as error:
        raise BadArgument(field="arguments", reason="not msgpack") from error
    return request


class Desk:
    """Answers calls."""

    def __init__(self, services: Services, doorkeeper: Doorkeeper) -> None:
        self._services = services
        self._doorkeeper = doorkeeper

    async def answer(self, call: Call) -> CallReply:
        """Carry out a call. Raises a VdrError, which the link reports, if it is refused or fails."""
        call_type = CALLS.get(call.name)
        if call_type is None:
            raise NotFound(what="call", name=call.name)
        request = decoded(call_type, call.arguments)
        if isinstance(request, Login):
            return _reply(await self._login(call, request))
        caller = await self._doorkeeper.caller(call.session_token, call.address)
        try:
            self._check(caller, call_type)
            result = await HANDLERS[call.name](self._services, caller, request)
        except VdrError as error:
            if call_type.changes or isinstance(error, NotAuthorised):
                state = "refused" if isinstance(error, NotAuthorised) else "failed"
                await self._note(caller.account, call, request, state, str(error))
            raise
        if call_type.changes:
            await self._note(caller.account, call, request, "ok")
        return _reply(result)

    def _check(self, caller: Caller, call_type: CallType) -> None:
        if caller.account.must_change_password and call_type.name not in _WITHOUT_CHANGED_PASSWORD:
            raise NotAuthorised(reason="change the password you were given first")
        if call_type.permission is not None and call_type.permission not in caller.permissions:
            raise NotAuthorised(reason=f"{caller.name} lacks the right {call_type.permission}")

    async def _login(self, call: Call, request: Login) -> LoginReply:
        address = request.address or call.address
        try:
            token, expires_ms, account = await self._doorkeeper.login(
                request.user_name, request.password, address
            )
        except VdrError as error:
            await self._note(request.user_name[:200], call, request, "refused", str(error))
            raise
        await self._note(account, call, request, "ok")
        return LoginReply(session_token=token, expires_at=from_ms(expires_ms), user=who_is(account))

    async def _note(
        self, who: Account | str, call: Call, request: Message, state: str, text: str = ""
    ) -> None:
        await self._services.catalog.write(
            audit.add,
            now_ms=self._services.clock(),
            tenant_id=TENANT_DEFAULT if isinstance(who, str) else who.tenant_id,
            user_name=who if isinstance(who, str) else who.name,
            address=call.address[:_TEXT_MAX],
            action=call.name,
            target=target_of(request),
            state=state,
            text=text[:_TEXT_MAX],
        )


def _reply(result: Message) -> CallReply:
    return CallReply(result=msgspec.Raw(msgspec.msgpack.encode(result)))
