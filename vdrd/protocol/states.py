"""The states of a connection as tables. Everything that decides whether a message may come now stands here.

A table says: in this state, a message of this type going this way leads to that state. What is not in the
table is a violation when it comes from the peer and a defect when it comes from us. The tables do not know
who is asking: the listener's is the dialler's turned around.
"""

from collections.abc import Mapping
from enum import Enum, auto

from schemas.link import (
    Abort,
    Chunks,
    Claim,
    Claimed,
    Commit,
    Committed,
    Enrol,
    Enrolled,
    Fault,
    Fetch,
    Goodbye,
    Hello,
    Message,
    Notify,
    Open,
    Opened,
    Ping,
    Pong,
    Put,
    PutDone,
    Refused,
    Reply,
    Request,
    Welcome,
    Withdraw,
    Working,
)
from vdrd.model.errors import ProtocolViolation


class Way(Enum):
    """Where a message goes."""

    OUT = auto()
    IN = auto()


class State(Enum):
    """Where a connection stands."""

    START = auto()
    GREETED = auto()
    """Hello went over; the listener must answer."""
    READY = auto()
    """Welcome went over."""
    ASKED = auto()
    """The one question of enrolment, or the ticket of a data channel, went over."""
    OPEN = auto()
    """A data channel is at work; after Committed it stays so, as a run may make several points."""
    CLOSING = auto()
    """We said goodbye: answers may still come."""
    CLOSED = auto()


Table = Mapping[State, Mapping[tuple[Way, type[Message]], State]]
OUT, IN = Way.OUT, Way.IN


def both_ways(state: State, *types: type[Message]) -> dict[tuple[Way, type[Message]], State]:
    """Rows for messages that either side may send and that lead to `state`."""
    return {(way, one): state for one in types for way in Way}


def turned(table: Table) -> Table:
    """The same table seen from the other end."""
    return {
        state: {(IN if way is OUT else OUT, one): target for (way, one), target in rows.items()}
        for state, rows in table.items()
    }


GREETING: Table = {
    State.START: {(OUT, Hello): State.GREETED},
    State.GREETED: {(IN, Welcome): State.READY, (IN, Refused): State.CLOSED},
}
"""Of the dialler."""

ENROLMENT: Table = {
    State.READY: {(OUT, Enrol): State.ASKED, (OUT, Goodbye): State.CLOSED},
    State.ASKED: {(IN, Enrolled): State.CLOSED, (IN, Refused): State.CLOSED},
}
"""Of the dialler, who is the one without certificate."""

_ANSWERS = (Reply, Fault, Pong)
CONTROL: Table = {
    State.READY: {
        **both_ways(State.READY, Request, Notify, Withdraw, Ping, *_ANSWERS),
        (OUT, Goodbye): State.CLOSING,
        (IN, Goodbye): State.CLOSED,
    },
    State.CLOSING: {
        **{(IN, one): State.CLOSING for one in (Request, Notify, Withdraw, Ping, *_ANSWERS)},
        **{(OUT, one): State.CLOSING for one in _ANSWERS},
        (IN, Goodbye): State.CLOSED,
    },
}
"""Of both sides: after the greeting a control link is symmetric."""

DATA: Table = {
    State.READY: {(OUT, Open): State.ASKED},
    State.ASKED: {(IN, Opened): State.OPEN, (IN, Fault): State.CLOSED},
    State.OPEN: {
        **{(OUT, one): State.OPEN for one in (Claim, Put, Fetch, Commit)},
        **{(IN, one): State.OPEN for one in (Claimed, PutDone, Chunks, Committed, Working, Fault)},
        (OUT, Abort): State.CLOSED,
        (OUT, Goodbye): State.CLOSED,
    },
}
"""Of the agent, whoever dialled."""


class Machine:
    """Walks a table. One per connection and chapter of the protocol."""

    def __init__(self, table: Table, state: State, peer: str) -> None:
        self.state = state
        self.peer = peer
        self._table = table

    def sent(self, message: Message) -> None:
        """Note that we send `message`. RuntimeError if we may not: a defect of ours."""
        target = self._table.get(self.state, {}).get((OUT, type(message)))
        if target is None:
            raise RuntimeError(f"{type(message).__name__} must not be sent in state {self.state.name}")
        self.state = target

    def received(self, message: Message) -> None:
        """Note that `message` came. ProtocolViolation if it may not."""
        target = self._table.get(self.state, {}).get((IN, type(message)))
        if target is None:
            tag = message.__struct_config__.tag
            raise ProtocolViolation(peer=self.peer, reason=f"{tag} in state {self.state.name.lower()}")
        self.state = target
