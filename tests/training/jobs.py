"""Jobs that the tests start in processes of their own."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from dove_core.config import TrainConfig
from dove_core.errors import DataError
from dove_core.events import Measured, Report, Saved
from dove_core.model.dove import Dove
from dove_core.training.batches import Batch
from dove_core.training.objective import Objective
from dove_core.training.world import World
from tests.made import SMALL


def make_pairs(count: int) -> Batch:
    """Return `count` pairs, two of which have equal captions."""
    random = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 255, (count, 3, 32, 32), generator=random, dtype=torch.uint8)
    tokens = torch.randint(2, 40, (count, 6), generator=random)
    captions = torch.arange(count)
    captions[-1] = captions[0]
    return Batch(pixels, tokens, torch.full((count,), 6), torch.arange(count), captions)


def make_objective(world: World, objective: str) -> Objective:
    """Return the global term alone, without dropout and with batch norm at rest, so that only the division counts."""
    torch.manual_seed(0)
    model = Dove(SMALL, words=40).eval()
    training = TrainConfig(objective=objective, lambda_g=1.0, margin=0.5)
    return Objective(model, training, world.gather)


def global_gradients(world: World, report: Report, count: int, objective: str) -> dict[str, np.ndarray]:
    """Return the loss and the gradients of this division of `count` pairs."""
    module = make_objective(world, objective)
    wrapped = world.together(module)
    pairs = make_pairs(count)
    own = torch.arange(count).tensor_split(world.size)[world.rank]
    losses = wrapped(Batch(*(part[own] for part in pairs[:5])))
    (losses.global_ + 0 * losses.total).backward()
    found = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    report(Measured("job", world.mean({"loss": losses.global_.item()})))
    return {"loss": losses.global_.detach().numpy(), **found}


def report_once(world: World, report: Report) -> int:
    """Report from every process; return the number of processes."""
    report(Saved(f"process {world.rank}"))  # type: ignore[arg-type]
    world.wait()
    return world.size


def fail_as_second(world: World, report: Report) -> None:
    """Raise a DoveError in the second process while the first waits for it."""
    if world.rank == 1:
        raise DataError("shard 7 is damaged", hint="shard again")
    world.wait()


def die_as_second(world: World, report: Report) -> None:
    """End the second process without a word."""
    if world.rank == 1:
        os._exit(9)
    world.wait()


def break_as_second(world: World, report: Report) -> None:
    """Have a bug in the second process."""
    if world.rank == 1:
        nn.Linear(2, 2)(torch.zeros(3))
    world.wait()
