"""Starts a training: in this process, in several processes of this machine, or in those that torchrun or srun started.

Only the first process reports. Its events and its result reach the caller; a DoveError of any process does too.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from dove_core.config import LaunchConfig
from dove_core.encoding.compute import check_gpu_count, choose_device
from dove_core.errors import DoveError, TrainingError
from dove_core.events import Noted, Report, silent
from dove_core.processes import EventListener, end_with_parent
from dove_core.training.interrupt import Interrupt
from dove_core.training.slurm import srun_variables
from dove_core.training.world import LostError, World, process_group, run_processes

T = TypeVar("T")
Job = Callable[[World, Report], T]

_SETTLE = 1.0
"""Seconds that a process with an error waits before it ends. When a process is killed, the others get errors because
of that; the delay makes the killed one the first to end, so it is reported as the cause."""

_RESUME = "--resume continues from last/, with any number of processes"


def launch(launching: LaunchConfig, device: str, job: Job[T], *, report: Report = silent) -> T | None:
    """Run `job(world, report)` in as many processes as asked for and return the first one's result.

    When a process dies or fails, all are started again, up to `launching.restarts` times; the job itself finds the
    checkpoint to resume from. A DoveError ends the launch at once. A process that torchrun or srun started joins the
    others instead; all but the first return None.

    Raises:
        UsageError: more GPUs are asked for than the machine has.
        TrainingError: processes died too often, or lost each other.
        DoveError: any process raised it.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    count = launching.gpus
    if count == 1 and (found := srun_variables()):
        os.environ.update(found)
        if found["RANK"] == "0":
            report(Noted(f"{found['WORLD_SIZE']} tasks of SLURM meet at {found['MASTER_ADDR']}:{found['MASTER_PORT']}"))
    if joins_others():
        return _join(device, job, report)
    chosen = choose_device(device)
    check_gpu_count(chosen, count, setting=device)
    if count == 1:
        return job(World(0, 1, chosen), report)
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        return _Launch(Path(folder), count, chosen.type, job).run(launching.restarts, report)


def joins_others() -> bool:
    """Tell whether torchrun or srun started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _join(device: str, job: Job[T], report: Report) -> T | None:
    try:
        with process_group(choose_device(device).type) as world:
            result = job(world, report if world.first else silent)
            return result if world.first else None
    except LostError as error:
        raise TrainingError(str(error), hint=_RESUME) from error


@dataclass(frozen=True)
class _Launch(Generic[T]):
    """Processes of this machine that do one job. They leave results and errors as files in `folder`."""

    folder: Path
    count: int
    device_type: str
    job: Job[T]

    @property
    def events(self) -> Path:
        """Return the socket that receives the first process's events."""
        return self.folder / "events"

    def run(self, restarts: int, report: Report) -> T | None:
        """Start the processes, again after a failure, and return the first one's result."""
        with EventListener(self.events, report), Interrupt() as interrupt:
            for attempt in range(restarts + 1):
                failed = self._attempt(attempt, interrupt)
                if failed is None and (self.folder / "result").exists():
                    result: T = self.read("result")
                    return result
                if failed is None or interrupt.requested:
                    raise KeyboardInterrupt
                report(Noted(self._reason(*failed, is_last=attempt == restarts)))
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, attempt: int, interrupt: Interrupt) -> tuple[int, int] | None:
        """Run all processes once; return rank and exit code of the first one that failed, if any did."""
        for path in self.folder.glob("error-*"):
            path.unlink()
        threads = max(1, torch.get_num_threads() // self.count)
        return run_processes(_work, (self, threads), self.count, attempt, lambda: interrupt.requested)

    def _reason(self, rank: int, code: int, *, is_last: bool) -> str:
        """Return why process `rank` failed; raise it if the processes are not to be started again."""
        errors = {int(path.name.removeprefix("error-")): self.read(path.name) for path in self.folder.glob("error-*")}
        for error in errors.values():
            if isinstance(error, DoveError):
                raise error
        if (error := errors.get(rank)) is None:
            message = f"training process {rank} ended with code {code}"
            if is_last:
                hint = "out of memory? Try a smaller --batch-size; --resume continues from last/"
                raise TrainingError(message, hint=hint)
            return message
        if is_last:
            raise TrainingError(str(error), hint=_RESUME) if isinstance(error, LostError) else error
        return f"training process {rank} failed: {str(error).splitlines()[-1]}"

    def write(self, name: str, value: object) -> None:
        """Leave a result or an error."""
        (self.folder / name).write_bytes(pickle.dumps(value))

    def read(self, name: str) -> Any:
        """Return what a process left."""
        return pickle.loads((self.folder / name).read_bytes())  # our own processes wrote it


def _work(launched: _Launch[T], threads: int) -> None:
    """Do one process's share of the job, in a process of its own."""
    rank = os.environ["RANK"]
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        with (
            process_group(launched.device_type) as world,
            Client(str(launched.events)) if world.first else nullcontext() as connection,
        ):
            result = launched.job(world, connection.send if connection else silent)
        if world.first:
            launched.write("result", result)
    except KeyboardInterrupt:
        os._exit(0)  # all have saved; the process group would wait for the others
    except (DoveError, LostError) as error:
        time.sleep(_SETTLE if isinstance(error, LostError) else 0)
        launched.write(f"error-{rank}", error)
        os._exit(1)
    except Exception:
        time.sleep(_SETTLE)
        launched.write(f"error-{rank}", RuntimeError(f"a training process failed:\n{traceback.format_exc().rstrip()}"))
        os._exit(1)
