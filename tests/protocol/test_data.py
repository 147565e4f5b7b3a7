"""The order of answers on a data channel, the conversion of drafts, errors as messages."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.link import Chunks, Claim, Claimed, Fault, Fetch, Hello, Open, Opened, Put, PutDone, Working
from vdrd.model import errors
from vdrd.model.errors import Damaged, NotFound, PeerFailed, ProtocolViolation, VdrError
from vdrd.model.points import BackupType, DiskRoot, FilesRoot, ObjectKind, PointDraft
from vdrd.protocol.codec import Decoder, body_of, bulk_frame_of
from vdrd.protocol.data import DataConnection
from vdrd.protocol.faults import error_of, fault_of, internal_fault_of, refusal_of
from vdrd.protocol.points import commit_of, draft_of

IDS = b"i" * 64


def put() -> Put:
    return Put(IDS, b"t" * 24, memoryview(b"payload"))


def opened() -> DataConnection:
    agent = DataConnection("node", is_agent=True)
    agent.sending(Open(b"t" * 32))
    agent.received(memoryview(body_of(Opened("run", "tls"))))
    return agent


def answer(agent: DataConnection, message):
    return agent.received(memoryview(body_of(message)))


def test_answers_in_order_settle_their_questions():
    agent = opened()
    for question in (put(), put(), Claim(IDS), Fetch(IDS)):
        agent.sending(question)
    assert agent.outstanding == 4
    answer(agent, Working())
    answer(agent, PutDone(2))
    answer(agent, Fault(0, "damaged", "m"))
    assert agent.outstanding == 2
    answer(agent, Claimed(b"\1\0"))
    answer(agent, Chunks(True, b"", memoryview(b"")))
    assert agent.outstanding == 1
    answer(agent, Chunks(False, b"", memoryview(b"")))
    assert agent.outstanding == 0


@pytest.mark.parametrize(
    ("questions", "wrong"),
    [
        ([], PutDone(1)),
        ([], Fault(0, "c", "m")),
        ([Claim(IDS)], PutDone(1)),
        ([put(), Claim(IDS)], Claimed(b"\1\1")),
        ([Claim(IDS)], Claimed(b"\1")),
        ([Claim(IDS)], Hello(1, 1, "data")),
        ([Claim(IDS)], Claim(IDS)),
    ],
    ids=["unasked", "unasked-fault", "other-type", "out-of-order", "wrong-length", "greeting", "question"],
)
def test_answer_that_does_not_fit_is_a_violation(questions, wrong):
    agent = opened()
    for question in questions:
        agent.sending(question)
    with pytest.raises(ProtocolViolation):
        answer(agent, wrong)


@pytest.mark.parametrize(
    "question",
    [
        Claim(b"i" * 33),
        Fetch(b"i"),
        Put(IDS, b"t" * 23, memoryview(b"")),
        Put(IDS, b"t" * 12, memoryview(b"")),
    ],
    ids=["claim-cut", "fetch-cut", "table-cut", "table-short"],
)
def test_question_cut_short_is_a_violation(question):
    node = DataConnection("agent", is_agent=False)
    node.received(memoryview(body_of(Open(b"t" * 32))))
    node.sending(Opened("run", "tls"))
    with pytest.raises(ProtocolViolation):
        node.received(memoryview(body_of(question)))


@given(st.binary(max_size=1000), st.binary(max_size=200))
def test_bulk_frame_is_what_the_encoder_would_make(payload, table):
    message = Put(IDS, table, memoryview(payload))
    head, tail = bulk_frame_of(message)
    frame = head + bytes(tail)
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    again = Decoder(Put).decode(frame[4:], "p")
    assert (again.ids, again.table, bytes(again.payload)) == (IDS, table, payload)


def test_decoded_payload_lies_in_the_received_buffer():
    buffer = bytearray(body_of(put()))
    message = Decoder(Put).decode(memoryview(buffer), "p")
    buffer[-1] ^= 0xFF
    assert bytes(message.payload) != b"payload"


texts = st.text(max_size=20)
numbers = st.integers(0, 1 << 62)
root_ids = st.none() | st.binary(min_size=32, max_size=32)
roots = st.builds(DiskRoot, root_ids, st.integers(0, 64), numbers, st.integers(1, 1 << 30)) | st.builds(
    FilesRoot, root_ids, st.integers(0, 64), numbers
)


@given(roots, texts, numbers, st.lists(texts, max_size=3), st.sampled_from(BackupType))
def test_draft_crosses_the_wire_unchanged(root, text, number, warnings, backup_type):
    draft = PointDraft(
        object_name=text,
        kind=ObjectKind.DISK if isinstance(root, DiskRoot) else ObjectKind.FILES,
        backup_type=backup_type,
        root=root,
        source=text,
        host=text,
        logical_bytes=number,
        new_bytes=number,
        stored_bytes=number,
        started_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        parent_id=text or None,
        warnings=tuple(warnings),
        warning_count=len(warnings),
        labels={text: text},
    )
    commit = commit_of(draft)
    assert draft_of(Decoder(type(commit)).decode(body_of(commit), "p"), "p") == draft


def all_errors() -> list[type[VdrError]]:
    found, pending = [], [VdrError]
    while pending:
        one = pending.pop()
        pending += one.__subclasses__()
        found.append(one)
    return [one for one in found if one.__module__ == errors.__name__ and one is not VdrError]


class _Named(dict):
    def __missing__(self, name):
        self[name] = f"<{name}>"
        return self[name]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_crosses_the_wire_as_itself(kind):
    fields = _Named()
    (kind.template + kind.hint).format_map(fields)
    if kind is PeerFailed:
        fields["remedy"] = fields.get("remedy", "")
    error = kind(**fields)
    again = error_of(Decoder(Fault).decode(body_of(fault_of(7, error)), "p"))
    assert type(again) is kind
    assert again.message == error.message
    assert error_of(refusal_of(error)).message == error.message


@pytest.mark.parametrize(
    "fault",
    [
        Fault(1, "from-the-future", "it melted", "cool it", True, {"where": "core"}),
        Fault(1, "not-found", "point not found: x", "", False, {"other": 1}),
        Fault(1, "not-found", "odd fields", "", False, {"what": ["a"], "nam": {}}),
    ],
    ids=["unknown-code", "missing-fields", "odd-fields"],
)
def test_fault_that_is_not_understood_keeps_its_text(fault):
    error = error_of(fault)
    assert isinstance(error, PeerFailed)
    assert str(error) == fault.message


def test_internal_fault_says_nothing_of_the_inside():
    assert isinstance(error_of(internal_fault_of(1)), PeerFailed)
    assert error_of(fault_of(1, Damaged(what="x", reason="y"))).code == "damaged"
    assert error_of(fault_of(1, NotFound(what="x", name="{evil}"))).message == "x not found: {evil}"
