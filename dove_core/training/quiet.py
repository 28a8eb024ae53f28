"""Keeps torch's elastic launcher from speaking for itself."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LAUNCHER = ("torch.distributed.elastic", "torch.multiprocessing.spawn")
_NOT_SHARED = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def silence_launcher() -> list[int]:
    """Keep the launcher's own words back; return how loud its loggers were."""
    loggers = [logging.getLogger(name) for name in _LAUNCHER]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    return levels


@contextmanager
def quiet_launcher() -> Iterator[None]:
    """Give signals back as they were, and keep the launcher's own words back: errors reach the user as ours.

    Each start gets a store of its own: in a shared one, processes that are started again would find the addresses of
    those before them.
    """
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    shared = os.environ.get(_NOT_SHARED, "0")
    os.environ[_NOT_SHARED] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # processes that lose each other would each show a stack
    levels = silence_launcher()
    try:
        yield
    finally:
        os.environ[_NOT_SHARED] = shared
        for name, level in zip(_LAUNCHER, levels, strict=True):
            logging.getLogger(name).setLevel(level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
