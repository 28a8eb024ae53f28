"""Times of steps that take turns, so that a change of the machine's speed meets all of them; for other benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def median_seconds(
    steps: Mapping[str, Callable[[], None]], device: torch.device, *, rounds: int, warm_up: int = 2
) -> dict[str, float]:
    """Return the median seconds of each step over some rounds, after others that are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(warm_up + rounds):
        for name, step in steps.items():
            found = seconds(step, device)
            if k >= warm_up:
                taken[name].append(found)
    return {name: statistics.median(times) for name, times in taken.items()}


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of one step."""
    wait(device)
    began = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Wait for the queued work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def print_speeds(taken: Mapping[str, float], images: int) -> None:
    """Print a table of images a second, with the ratio to the first step."""
    base = next(iter(taken.values()))
    print("| step | images/s | ratio |\n| --- | --- | --- |")
    for name, own in taken.items():
        print(f"| {name} | {images / own:.2f} | {base / own:.2f} |")
