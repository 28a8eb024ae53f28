"""Jobs that the tests run in other processes, where STEP_TIMEOUT (seconds) makes a lost process known sooner."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
import uuid
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dove_core.config import FineTuneConfig, TrainConfig
from dove_core.data.batch_plan import Step
from dove_core.data.reader import Record
from dove_core.encoding.clip import load_clip
from dove_core.errors import DataError
from dove_core.events import Measured, Report, Saved
from dove_core.model.dove import Dove
from dove_core.training import world as world_module
from dove_core.training.batches import Batch, MakeBatch
from dove_core.training.clip import ClipTrainable
from dove_core.training.loop import TrainingJob, _check_same, run_job
from dove_core.training.objective import Objective
from dove_core.training.result import TrainResult
from dove_core.training.trainer import Trainer
from dove_core.training.world import World
from tests.made import SMALL

if seconds := os.environ.get("STEP_TIMEOUT"):
    world_module.STEP_TIMEOUT = timedelta(seconds=int(seconds))


def make_pairs(count: int, captions_each: int = 1) -> Batch:
    """Return `count` images, two of which have equal captions."""
    random = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 255, (count, 3, 32, 32), generator=random, dtype=torch.uint8)
    tokens = torch.randint(2, 40, (captions_each * count, 6), generator=random)
    rows = torch.arange(captions_each * count).view(captions_each, count)
    captions = rows.clone()
    captions[-1, -1] = captions[0, 0]
    return Batch(pixels, tokens, torch.full((len(tokens),), 6), rows, count, torch.arange(count), captions)


def share(pairs: Batch, own: torch.Tensor) -> Batch:
    """Return a batch of some images, with their captions."""
    rows = pairs.rows[:, own]
    tokens, renumbered = pairs.tokens[rows.flatten()], torch.arange(rows.numel()).view(rows.shape)
    lengths = pairs.lengths[rows.flatten()]
    return Batch(pairs.pixels[own], tokens, lengths, renumbered, len(own), pairs.images[own], pairs.captions[:, own])


def make_objective(world: World, objective: str) -> Objective:
    """Return the global term, without dropout and with fixed batch norm, so that only the division matters."""
    torch.manual_seed(0)
    model = Dove(SMALL, words=40).eval()
    training = TrainConfig(objective=objective, lambda_g=1.0, margin=0.5)
    return Objective(model, training, world.gather)


def global_gradients(
    world: World, report: Report, count: int, objective: str, captions_each: int
) -> dict[str, np.ndarray]:
    """Return loss and gradients of `count` pairs that are divided over the processes."""
    module = make_objective(world, objective)
    wrapped = world.data_parallel(module)
    pairs = make_pairs(count, captions_each)
    parts = torch.arange(count).tensor_split(world.size)
    losses = wrapped(share(pairs, parts[world.rank]), [len(part) for part in parts])
    (losses.global_loss + 0 * losses.loss).backward()
    found = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    report(Measured("job", world.mean({"loss": losses.global_loss.item()})))
    return {"loss": losses.global_loss.detach().numpy(), **found}


def clip_gradients(world: World, report: Report, folder: Path, count: int, captions_each: int) -> dict[str, np.ndarray]:
    """Return loss and gradients of a CLIP model for `count` pairs that are divided over the processes."""
    made = ClipTrainable(load_clip(folder), TrainConfig(), FineTuneConfig(), world.gather)
    pairs = make_pairs(count, captions_each)
    tokens = torch.zeros(len(pairs.tokens), 77, dtype=torch.int64)
    tokens[:, :6], tokens[:, 6] = pairs.tokens, 49407
    pairs = pairs._replace(tokens=tokens)
    parts = torch.arange(count).tensor_split(world.size)
    wrapped = world.data_parallel(made.objective)
    losses = wrapped(share(pairs, parts[world.rank]), [len(part) for part in parts])
    losses.loss.backward()
    found = {name: p.grad.numpy() for name, p in made.model.named_parameters() if p.grad is not None}
    return {"loss": losses.loss.detach().numpy(), **found}


def report_once(world: World, report: Report) -> int:
    """Report from every process; return the number of processes."""
    report(Saved(f"process {world.rank}"))  # type: ignore[arg-type]
    world.barrier()
    return world.size


def fail_as_second(world: World, report: Report) -> None:
    """Raise a DoveError in the second process while the first waits for it."""
    if world.rank == 1:
        raise DataError("shard 7 is damaged", hint="shard again")
    world.barrier()


def find_different_runs(world: World, report: Report) -> None:
    """Check that processes have the same run folder, where the second has another one."""
    _check_same(world, world.rank, "another run folder")


def die_as_second(world: World, report: Report) -> None:
    """End the second process without an error message."""
    if world.rank == 1:
        os._exit(9)
    world.barrier()


def break_as_second(world: World, report: Report) -> None:
    """Raise an error that is a bug in the second process."""
    if world.rank == 1:
        nn.Linear(2, 2)(torch.zeros(3))
    world.barrier()


def freeze_once(world: World, report: Report) -> int:
    """Freeze the second process the first time; return how often the processes were started again."""
    if world.rank == 1 and not world.restarts:
        os.kill(os.getpid(), signal.SIGSTOP)
    world.any(True)
    return world.restarts


def break_once(world: World, report: Report) -> int:
    """Fail in the second process the first time; return how often the processes were started again."""
    if world.rank == 1 and not world.restarts:
        raise RuntimeError("a flake")
    world.barrier()
    return world.restarts


def record_steps(folder: Path, pause: float) -> None:
    """Make this process train slowly and record its samples in a file of the folder, one line for each step."""
    train_on, path = Trainer._train_on, folder / uuid.uuid4().hex

    def recorded(self: Trainer, step: Step, batch: Batch, is_whole: bool) -> None:
        time.sleep(pause)
        train_on(self, step, batch, is_whole)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([time.time(), self.world.size, step.start, batch.images.tolist()]) + "\n")

    Trainer._train_on = recorded  # type: ignore[method-assign]


def counted_training(world: World, report: Report, *, log: Path, dies_at: int, job: TrainingJob) -> TrainResult:
    """Train, and record the samples of each batch; the last process once kills itself in its batch `dies_at`."""
    make, batches = MakeBatch.__call__, itertools.count()

    def counted(self: MakeBatch, records: list[Record], epoch: int) -> Batch:
        step = next(batches)
        if step == dies_at and not world.restarts and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with (log / f"{world.rank}").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([step, [record.number for record in records]]) + "\n")
        return make(self, records, epoch)

    MakeBatch.__call__ = counted  # type: ignore[method-assign]
    return run_job(job, world, report)
