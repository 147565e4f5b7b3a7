"""The rate limit by a clock of the test's own, and tickets' time by another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdrd.model.errors import BadInput
from vdrd.model.rate import RateLimit, RateUnusable
from vdrd.net.address import Address, AddressUnreadable


class Time:
    def __init__(self):
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def limited(time, rate):
    return RateLimit(rate, clock=time.clock, sleep=time.sleep)


@given(st.floats(1, 1e9), st.lists(st.integers(1, 10_000_000), min_size=1, max_size=20))
def test_sending_never_runs_ahead_of_the_rate(rate, batches):
    time = Time()
    limit = limited(time, rate)
    for batch in batches:
        time.sleep(limit.take(batch))
    assert time.now >= (sum(batches) - rate) / rate - 1e-6
    assert time.now <= sum(batches) / rate + 1e-6


def test_no_limit_never_waits(time):
    limit = limited(time, None)
    limit.wait(1 << 40)
    assert time.now == 0


def test_limit_raised_while_waiting_ends_the_wait_soon(time):
    limit = limited(time, 1000)
    original = time.sleep

    def sleep(seconds):
        original(seconds)
        if time.now >= 1:
            limit.change(None)

    limit._sleep = sleep
    limit.wait(1_000_000)
    assert time.now < 2


def test_limit_lowered_while_waiting_counts_for_the_rest(time):
    limit = limited(time, 1000)
    limit.change(500)
    limit.wait(1000)
    assert time.now == pytest.approx(2)


def test_wait_ends_when_the_work_is_over(time):
    limit = limited(time, 1)
    limit.wait(1_000_000, lambda: time.now < 3)
    assert time.now < 4


@pytest.mark.parametrize("rate", [0, -5, float("nan")])
def test_rate_that_is_none_is_refused(time, rate):
    limit = limited(time, 7)
    with pytest.raises(RateUnusable):
        limit.change(rate)
    assert limit.bytes_per_second == 7


@pytest.mark.parametrize(
    ("text", "address"),
    [("host:1", Address("host", 1)), (" 10.0.0.1:80 ", Address("10.0.0.1", 80)),
     ("[::1]:4510", Address("::1", 4510)), ("host", Address("host", 99)), ("::1", Address("::1", 99)),
     ("[fe80::1]", Address("fe80::1", 99))],
)  # fmt: skip
def test_address_is_read_and_written_the_same(text, address):
    assert Address.parse(text, 99) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:x", "host:65536", "ho st:1", "host:-1", "::1"])
def test_address_unreadable_is_refused(text):
    with pytest.raises(AddressUnreadable) as caught:
        Address.parse(text)
    assert isinstance(caught.value, BadInput)
