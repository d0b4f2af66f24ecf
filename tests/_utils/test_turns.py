import threading
import time
import warnings

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from pyro_mfcvae._utils.turns import FairLock, RandomStream, Turn, in_turn, seeded

CPU = torch.device("cpu")


def test_random_streams_are_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, CPU):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1, CPU):
        assert torch.equal(torch.rand(3), inside)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), inside)


def test_a_stream_goes_on_where_it_stopped() -> None:
    stream = RandomStream(1, CPU)
    with Turn(stream):
        first = torch.randn(3)
    torch.randn(7)
    with Turn(stream), seeded(2, CPU):
        torch.randn(5)
    with Turn(stream):
        second = torch.randn(3)
    with seeded(1, CPU):
        assert torch.equal(torch.randn(3), first)
        assert torch.equal(torch.randn(3), second)


def state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_float32_matmul_precision(),
        np.geterr()["under"],
        torch.distributions.Distribution._validate_args,
        poutine.runtime.am_i_wrapped(),
    )


NEUTRAL = (torch.float32, CPU, True, False, False, "highest", "ignore", False, False)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_set_outside_does_not_matter(fails: bool) -> None:
    """Nor is it changed, whether the turn ends by itself or by an error."""
    before = state()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    try:
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            np.errstate(under="raise"),
            pyro.poutine.trace(),
            pyro.plate("outer", 3),
            torch.inference_mode(),
        ):
            outside = state()
            try:
                with Turn(validates=False):
                    assert state() == (*NEUTRAL[:2], False, *NEUTRAL[3:])  # the one that trains sets it
                    with pyro.plate("inner", 2) as inner, Turn():
                        assert len(inner) == 2
                        assert state() == (*NEUTRAL[:2], False, *NEUTRAL[3:-1], True)
                    if fails:
                        raise KeyError
            except KeyError:
                pass
            assert state() == outside
            assert pyro.sample("x", pyro.distributions.Normal(torch.zeros((), device="cpu"), 1.0)) is not None
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_float32_matmul_precision("highest")
    assert state() == before


def test_threads_have_their_turns_one_at_a_time() -> None:
    inside, most = 0, 0

    @in_turn
    def count() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1

    workers = [threading.Thread(target=lambda: [count() for _ in range(20)]) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert (inside, most) == (0, 1)


def test_who_gives_way_goes_on_with_the_same_stream() -> None:
    """And those that wait come in the order in which they asked."""
    with seeded(3, CPU):
        expected = torch.rand(20)
    order: list[int] = []
    drawn = []

    def other(i: int) -> None:
        with seeded(i, CPU):
            order.append(i)
            torch.rand(4)

    torch.manual_seed(0)
    others = []
    with seeded(3, CPU):
        for i in range(20):
            if i % 5 == 0:
                others.append(threading.Thread(target=other, args=(i,)))
                others[-1].start()
                while not Turn._lock.is_wanted:
                    time.sleep(0.001)
            drawn.append(torch.rand(()))
            if i % 10 == 9:
                with Turn():
                    Turn.give_way()  # of a turn within another, nobody comes in
                assert len(order) == max(0, i - 9) // 5
                Turn.give_way()
                assert order == list(range(0, i, 5))
    for thread in others:
        thread.join(30)
    assert torch.equal(torch.stack(drawn), expected)
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(0))


def test_to_give_way_without_a_turn_does_nothing() -> None:
    Turn.give_way()
    assert Turn._lock.depth == 0


def test_a_thread_that_gives_up_is_left_out() -> None:
    """As one that is interrupted while it waits."""
    lock, done = FairLock(), []

    lock.acquire()

    def wait(i: int) -> None:
        lock.acquire()
        done.append(i)
        lock.release()

    first = threading.Thread(target=wait, args=(1,))
    first.start()
    while not lock.is_wanted:
        time.sleep(0.001)
    ticket = lock._waiting[0]
    second = threading.Thread(target=wait, args=(2,))
    second.start()
    while len(lock._waiting) < 2:
        time.sleep(0.001)
    lock._give_up(ticket)
    lock.release()
    second.join(30)
    assert done == [2]
    ticket.release()  # as if it had been given the lock
    first.join(30)
    assert done == [2, 1]


def test_python_warns_as_before() -> None:
    before = list(warnings.filters)
    with seeded(0, CPU):
        pass
    assert warnings.filters == before
