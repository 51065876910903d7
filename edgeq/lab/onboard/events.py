"""JSON lines on stdout: progress, then one result or one error.

File descriptor 1 is kept for them alone; what native libraries print goes to stderr.
"""

import json
import os
import signal
import sys
import time

INTERVAL_NS = 200000000
_state = {"stream": None, "shown_ns": 0, "step": None}


class Failure(Exception):
    """A failure with a kind that the host knows; `facts` travel beside the message."""

    def __init__(self, kind, message, **facts):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.facts = facts


class Stopped(BaseException):
    """A signal or a dead stdout ends the runner; `status` is its exit status."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


def open_stream():
    """Keep stdout for events and send every stray print to stderr."""
    _state["stream"] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def emit(event, **fields):
    """Write one line; a dead stdout raises Stopped."""
    fields["event"] = event
    stream = _state["stream"] or sys.stdout
    try:
        stream.write(json.dumps(fields, allow_nan=False) + "\n")
        stream.flush()
    except (BrokenPipeError, ConnectionError):
        silence()
        raise Stopped(128 + signal.SIGPIPE) from None


def silence():
    """Send what is still in the stream's buffer nowhere, so that closing it cannot fail."""
    if _state["stream"] is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _state["stream"].fileno())


def progress(step, done, total):
    """Say how far a step is, at most five times a second apart from its first and last line."""
    now_ns = time.perf_counter_ns()
    if 0 < done < total and step == _state["step"] and now_ns - _state["shown_ns"] < INTERVAL_NS:
        return
    _state.update(shown_ns=now_ns, step=step)
    emit("progress", step=step, done=int(done), total=int(total))


def stop_on_signals():
    """SIGTERM, SIGINT and SIGHUP end the runner by way of every `finally`."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _stop(number, _frame):
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(128 + number)


def stop_after(seconds):
    """End the runner when its time is up: first cleanly, 5 s later from a thread that needs no Python."""
    import faulthandler

    signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + 5, exit=True)


def _time_is_up(_number, _frame):
    raise Failure("timed-out", "the runner's time was up")
