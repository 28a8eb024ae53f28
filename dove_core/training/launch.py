"""Starts a training: in this process, in several, on one machine or more, or among those that others started.

Only the first process reports; what it reports, returns or raises reaches the caller as itself.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing import parent_process
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, TypeVar

import torch

from dove_core.config import LaunchConfig
from dove_core.encoding.compute import choose_device
from dove_core.errors import DoveError, TrainingError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.processes import EventListener, end_with_parent
from dove_core.training.ending import Ending
from dove_core.training.interrupt import noticing_signals
from dove_core.training.meeting import GO_ON
from dove_core.training.network import giving_up_after
from dove_core.training.pulse import LostError
from dove_core.training.quiet import quiet_launcher, silence_launcher
from dove_core.training.slurm import srun_variables
from dove_core.training.world import AnewError, FailedError, World, joined, start

T = TypeVar("T")
Job = Callable[..., T]

_SETTLE = 1
"""Seconds until a process that died is known to be dead: what ends in others because of it comes later."""

_NOTICE = 5
"""Seconds in which every machine's launcher sees that a machine came, and does not take an end for a failure."""

_EVENTS = "events"
"""In the folder of a launch: the socket that hears the first process."""


def launch(
    launching: LaunchConfig, device: str, job: Job[T], arguments: tuple[Any, ...], *, report: Report = silent
) -> T | None:
    """Run `job(world, report, *arguments)` in as many processes as asked for and return the first one's result.

    Where a process dies or fails, all are started again, up to `launching.restarts` times; the job itself finds what to
    go on from. A DoveError ends the launch at once. Under torchrun, and among several tasks of srun, the job joins
    these instead. On other machines than the first process's, and in other processes that it joins, there is no result.

    Raises:
        UsageError: more GPUs are asked for than there are; several machines without a meeting point.
        TrainingError: a process died too often; machines did not meet, or are not heard of any more.
        DoveError: whatever a process raised.
        KeyboardInterrupt: Ctrl-C or SIGTERM, to this process or to one of the others.
    """
    nodes, count = launching.node_range, launching.gpus
    if count == 1 and nodes == (1, 1) and (found := srun_variables()):
        os.environ.update(found)
        if found["RANK"] == "0":
            report(Noted(f"{found['WORLD_SIZE']} tasks of SLURM meet at {found['MASTER_ADDR']}:{found['MASTER_PORT']}"))
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join_running(launching, device, job, arguments, report)
    kind = choose_device(device).type
    if kind == "cuda" and count > torch.cuda.device_count():
        message = f"--gpus {count}: this machine has {torch.cuda.device_count()} GPU(s)"
        raise UsageError(message, hint="ask for fewer, or use --device cpu to train with several CPU processes")
    if count == 1 and nodes == (1, 1):
        return job(World(0, 1, torch.device(kind)), report, *arguments)
    if kind == "cpu" and device == "auto":
        message = f"--gpus {count}: this machine has no GPU that torch can use"
        raise UsageError(message, hint="leave --gpus out, or use --device cpu to train with several CPU processes")
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        return _start_all(Path(folder), launching, kind, job, arguments, report)


def restarted() -> bool:
    """Tell whether torchrun started this process again, after one of a run's processes died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _join_running(
    launching: LaunchConfig, device: str, job: Job[T], arguments: tuple[Any, ...], report: Report
) -> T | None:
    """Do this process's part among those that torchrun or srun started."""
    try:
        with joined(choose_device(device).type, launching, tell=lambda reason: report(Noted(reason))) as world:
            result = job(world, report if world.first else silent, *arguments)
            return result if world.first else None
    except LostError as error:
        raise TrainingError(str(error), hint=GO_ON) from error


def _start_all(
    folder: Path, launching: LaunchConfig, kind: str, job: Job[T], arguments: tuple[Any, ...], report: Report
) -> T | None:
    if launching.rendezvous:
        report(Noted(f"waiting for machines ({launching.nodes}) at {launching.rendezvous}"))
    threads, ending = max(1, torch.get_num_threads() // launching.gpus), Ending(folder)
    port = launching.meeting_point[1] if launching.rendezvous else 0
    with (
        EventListener(folder / _EVENTS, report), quiet_launcher(), noticing_signals(ending.note_signal),
        giving_up_after(launching.lost_after, port),
    ):  # fmt: skip
        try:
            result = start(launching, _work, (folder, launching, kind, threads, job, arguments))
        except FailedError as error:
            raise ending.find() or ending.failure(error.rank, error.code) from None
        except (KeyboardInterrupt, TrainingError) as error:
            raise ending.find() or error from None
    if end := ending.find():
        raise end
    return result


def _work(
    folder: Path, launching: LaunchConfig, kind: str, threads: int, job: Job[T], arguments: tuple[Any, ...]
) -> T | None:
    """Do one process's part, in a process that the elastic launcher started."""
    silence_launcher()
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()
    ending, alone = Ending(folder), os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]
    if alone and ending.find():
        return None  # what ended the launch would only come again
    try:
        with joined(kind, launching, signalled=ending.signalled) as world:
            if not alone and _ended_elsewhere(ending, world):
                return None
            with Client(str(folder / _EVENTS)) if world.first else nullcontext() as ear:
                send = ear.send if ear else silent
                for line in ending.failures() if world.first else ():
                    send(Noted(line))
                result = job(world, send, *arguments)
        return result if world.first else None
    except (DoveError, KeyboardInterrupt) as error:
        ending.note(error)
        if isinstance(error, KeyboardInterrupt) and not ending.signalled():
            _end_launcher()  # somebody told another machine, and all have saved
        os._exit(1)
    except AnewError:
        time.sleep(_NOTICE)
        os._exit(1)
    except Exception:
        time.sleep(_SETTLE)  # one that died in silence takes the others' connections with it, and is the cause
        ending.note_failure(int(os.environ["RANK"]))
        os._exit(1)


def _end_launcher() -> None:
    if (launcher := parent_process()) and launcher.pid == os.getppid():
        os.kill(os.getppid(), signal.SIGTERM)


def _ended_elsewhere(ending: Ending, world: World) -> bool:
    """Tell whether any machine's processes ended for good, and note it here too."""
    ends = [end for end in world.everyones(ending.find()) if end is not None]
    if ends:
        ending.note(ends[0])
    return bool(ends)
