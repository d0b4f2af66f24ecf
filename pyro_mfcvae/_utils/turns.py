"""Turns of threads to compute, each in a state of its own: what is set outside does not matter, and stays.

PyTorch's generators, its default type, Pyro's handlers and its validation belong to the whole process. So one
thread of this package computes at a time, with a random stream of its own, and gives way to others where it
can go on later.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import numpy as np
import pyro
import torch
from pyro.poutine import runtime

P = ParamSpec("P")
T = TypeVar("T")

ERRORS_OF_NUMPY = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # its defaults


class RandomStream:
    """Random numbers of PyTorch's generators, for a device and the CPU, that go on where they stopped.

    Args:
        seed: seed of both generators.
        device: device that numbers are drawn on.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])
        self._states = [torch.Generator(g.device).manual_seed(seed).get_state() for g in self._generators]

    def exchange(self) -> None:
        """Put this stream in the place of the generators' own, or these back."""
        for i, generator in enumerate(self._generators):
            state = generator.get_state()
            generator.set_state(self._states[i])
            self._states[i] = state


class FairLock:
    """A lock that threads get in the order in which they asked; its owner may take it again.

    Attributes:
        depth: how many times its owner has taken it; 0 if it has none.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._owner: int | None = None
        self.depth = 0

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits that the owner would let in if it released the lock."""
        return bool(self._waiting) and self.depth == 1

    def acquire(self) -> None:
        """Take the lock, or wait for it."""
        me = threading.get_ident()
        if self._owner == me:
            self.depth += 1
            return
        ticket = threading.Lock()
        with self._mutex:
            if self.depth:
                ticket.acquire()
                self._waiting.append(ticket)
            else:
                self.depth = 1
        try:
            ticket.acquire()  # what releases the lock leaves its depth at one
        except BaseException:  # an interruption
            self._give_up(ticket)
            raise
        self._owner = me

    def release(self) -> None:
        """Give the lock to the thread that has waited longest."""
        if self.depth > 1:
            self.depth -= 1
            return
        self._owner = None
        self._pass_on()

    def _pass_on(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self.depth = 0

    def _give_up(self, ticket: threading.Lock) -> None:
        with self._mutex:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return
        self._pass_on()  # it had been given already


class Turn:
    """The turn of a thread to compute, as a context: no other thread of this package does within.

    Within, inference mode and autocast are off; tensors are of float32 and on the CPU where nothing else is
    said; NumPy's error handling is its default; no handler of Pyro listens. Afterwards all is as before, the
    generators included. In a turn within another, only what its arguments say is new.

    Args:
        stream: random numbers within; None leaves them to PyTorch's global generators.
        validates: whether Pyro and PyTorch check all arguments of distributions; None leaves that as it is.
    """

    _lock = FairLock()
    _is_forked = False
    _outermost: Turn | None = None

    def __init__(self, stream: RandomStream | None = None, *, validates: bool | None = None) -> None:
        self._stream = stream
        self._validates = validates
        self._of_thread = ExitStack()
        self._of_process: ExitStack | None = None  # outside the turn

    def __enter__(self) -> Self:
        self._begin()
        if self._lock.depth == 1:
            _neutralize_thread(self._of_thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._of_thread.close()
        if self._of_process is not None:  # else it was interrupted while it waited to go on
            self._end(self._of_process)

    @staticmethod
    def give_way() -> None:
        """Let threads that wait have their turns, and go on after them; but not within a turn in a turn."""
        turn = Turn._outermost
        if Turn._lock.is_wanted and turn is not None and turn._of_process is not None:
            turn._end(turn._of_process)
            turn._begin()

    def _begin(self) -> None:
        self._lock.acquire()
        try:
            with ExitStack() as stack:
                if self._stream is not None:
                    self._stream.exchange()
                    stack.callback(self._stream.exchange)
                if self._validates is not None:
                    stack.enter_context(pyro.validation_enabled(self._validates))
                if self._lock.depth == 1:
                    Turn._outermost = self
                    _neutralize_process(stack)
                self._of_process = stack.pop_all()
        except BaseException:
            self._lock.release()
            raise

    def _end(self, of_process: ExitStack) -> None:
        self._of_process = None
        try:
            of_process.close()
        finally:
            self._lock.release()


def _neutralize_thread(stack: ExitStack) -> None:
    """Put back to its default what every thread sets for itself, until the stack is closed."""
    # Each only where it makes a difference, since some cost time in every operation within.
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())  # which inference mode implies, and its end does not
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if np.geterr() != ERRORS_OF_NUMPY:
        stack.enter_context(np.errstate(**ERRORS_OF_NUMPY))  # type: ignore[arg-type]


def _neutralize_process(stack: ExitStack) -> None:
    """Put back to its default what is of the whole process, until the stack is closed."""
    if Turn._is_forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)  # the threads of the process that was forked are not there
    _set(stack, torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    _set(stack, torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
    for handlers in (runtime._PYRO_STACK, runtime._DIM_ALLOCATOR._stack):
        if handlers:
            outer = list(handlers)
            handlers.clear()
            stack.callback(handlers.__setitem__, slice(None), outer)


def _set(stack: ExitStack, get: Callable[[], T], put: Callable[[T], object], value: T) -> None:
    """Set a value until the stack is closed."""
    before = get()
    if before != value:
        put(value)
        stack.callback(put, before)


def in_turn(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function compute in a :class:`Turn`."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with Turn():
            return function(*args, **kwargs)

    return inside


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[Turn]:
    """Take a turn with random numbers from this seed, on the device and on the CPU."""
    with Turn(RandomStream(seed, device)) as turn:
        yield turn


def _begin_anew() -> None:
    """Forget, in a process that was forked, the turns of threads that are not there."""
    Turn._lock = FairLock()
    Turn._is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
