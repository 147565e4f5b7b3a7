"""A data channel without I/O: the states of `states.DATA` and the order of answers.

Answers come in the order of their questions, so a question needs no number. The agent may have several under
way; the node answers one after the other.
"""

from collections import deque

from schemas import link
from schemas.link import (
    Chunks,
    Claim,
    Claimed,
    Commit,
    Committed,
    Fault,
    Fetch,
    Message,
    Open,
    Opened,
    Put,
    PutDone,
    Working,
)
from vdrd.model.chunks import CHUNK_ID_BYTES
from vdrd.model.errors import ProtocolViolation
from vdrd.protocol.codec import Decoder
from vdrd.protocol.states import DATA, Machine, State, turned

ANSWERS: dict[type[Message], type[Message]] = {
    Open: Opened,
    Claim: Claimed,
    Put: PutDone,
    Fetch: Chunks,
    Commit: Committed,
}
"""What answers a question when it did not fail."""
TABLE_RECORD_BYTES = 12
"""Of one chunk in the table of Put and Chunks."""

_DATA: Decoder[Message] = Decoder(link.DATA)


class DataConnection:
    """Either end of a data channel. Not thread-safe: whoever holds the channel holds this."""

    def __init__(self, peer: str, *, is_agent: bool) -> None:
        self.peer = peer
        self._machine = Machine(DATA if is_agent else turned(DATA), State.READY, peer)
        self._is_agent = is_agent
        self._questions: deque[Message] = deque()

    @property
    def state(self) -> State:
        """Where the channel stands."""
        return self._machine.state

    @property
    def outstanding(self) -> int:
        """Questions not answered yet."""
        return len(self._questions)

    def sending(self, message: Message) -> None:
        """We are about to send `message`."""
        self._machine.sent(message)
        if type(message) in ANSWERS:
            self._questions.append(message)
        elif not self._is_agent:
            self._settle(message)

    def received(self, body: memoryview) -> Message:
        """The message in `body`, into which its memoryview points. Raises ProtocolViolation."""
        message = _DATA.decode(body, self.peer)
        self._machine.received(message)
        if type(message) in ANSWERS:
            self._check_question(message)
            self._questions.append(message)
        elif self._is_agent:
            self._settle(message)
        return message

    def _settle(self, answer: Message) -> None:
        """Match an answer with the oldest question."""
        if isinstance(answer, Working) or type(answer) not in (*ANSWERS.values(), Fault):
            return
        if not self._questions:
            raise ProtocolViolation(peer=self.peer, reason="an answer without question")
        question = self._questions[0]
        if not isinstance(answer, Fault):
            self._check_answer(question, answer)
        if not (isinstance(answer, Chunks) and answer.more):
            self._questions.popleft()

    def _check_answer(self, question: Message, answer: Message) -> None:
        if type(answer) is not ANSWERS[type(question)]:
            asked, came = question.__struct_config__.tag, answer.__struct_config__.tag
            raise ProtocolViolation(peer=self.peer, reason=f"{came} as the answer to {asked}")
        match question, answer:
            case Claim(ids=ids), Claimed(wanted=wanted) if len(wanted) * CHUNK_ID_BYTES != len(ids):
                raise ProtocolViolation(peer=self.peer, reason="an answer of the wrong length")

    def _check_question(self, question: Message) -> None:
        ids = getattr(question, "ids", b"")
        if len(ids) % CHUNK_ID_BYTES:
            raise ProtocolViolation(peer=self.peer, reason="chunk ids cut short")
        count = len(ids) // CHUNK_ID_BYTES
        if isinstance(question, Put) and len(question.table) != count * TABLE_RECORD_BYTES:
            raise ProtocolViolation(peer=self.peer, reason="ids and table do not belong together")
