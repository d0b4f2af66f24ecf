"""What tests of processes and of their ends share: forked children, and fits that must be the same."""

import os
import signal
import traceback
from contextlib import contextmanager

import torch


def forked(function, *arguments):
    """Start a copy of this process that calls a function and ends; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(pid):
    """Wait for a child, and return its exit status, or the negative number of what killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def child(function, *arguments):
    """A forked child that does not outlive the context; yields its id."""
    pid = forked(function, *arguments)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        ended(pid)


def records(fitted):
    """The history of a fit, apart from how long it took."""
    return [{**vars(record), "seconds": None} for record in fitted.history]


def assert_same_fit(fitted, expected):
    """Two models are the same bit for bit, and so are their histories."""
    state, others = fitted.model.state_dict(), expected.model.state_dict()
    assert state.keys() == others.keys()
    different = [name for name in state if not torch.equal(state[name], others[name])]
    assert different == []
    assert records(fitted) == records(expected)
