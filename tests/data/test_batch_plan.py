"""Every sample once, equal steps for all ranks, from any position."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dove_core.data.batch_plan import SequentialPlan, TrainingPlan, epoch_order

COUNTS = (10, 10, 7, 10, 3, 9)
TOTAL = sum(COUNTS)


def plans(world: int, **more) -> list[TrainingPlan]:
    return [TrainingPlan(COUNTS, 4, 2, 7, rank, world, **more) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_every_sample_is_seen_once_an_epoch_and_all_ranks_take_equally_many_steps(world):
    batches = [list(plan.batches()) for plan in plans(world)]
    assert len({len(rank) for rank in batches}) == 1
    for epoch in (0, 1):
        seen = np.concatenate([numbers for rank in batches for e, numbers in rank if e == epoch])
        assert sorted(seen) == list(range(TOTAL))


@pytest.mark.parametrize(("total", "world"), [(2, 1), (9, 2), (49, 3), (50, 2), (33, 4), (64, 4), (7, 3)])
def test_no_rank_ever_gets_less_than_two_samples_nor_much_more_than_asked(total, world):
    for rank in range(world):
        plan = TrainingPlan((total,), 4, 1, 0, rank, world)
        sizes = [len(numbers) for _, numbers in plan.batches()]
        assert all(2 <= size <= 4 + 2 for size in sizes), sizes
        assert all(size == 4 for size in sizes[:-1])


def test_epochs_differ_and_seeds_differ_and_equal_ones_agree():
    orders = [tuple(epoch_order(COUNTS, seed=s, epoch=e)) for s, e in itertools.product((0, 1), (0, 1))]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(epoch_order(COUNTS, seed=0, epoch=0))


def test_the_shuffle_mixes_within_windows_of_shards():
    counts = [100] * 8
    order = epoch_order(counts, seed=0, epoch=0, window=2)
    assert sorted(order) == list(range(800))
    for window in range(4):
        shards = {int(n) // 100 for n in order[window * 200 : window * 200 + 200]}
        assert len(shards) == 2
    assert len({int(n) // 100 for n in order[:20]}) == 2


def test_a_run_resumes_with_exactly_the_samples_that_are_left_at_another_process_count():
    first = list(plans(2)[0].steps())
    stopped = first[2]
    left = [plan.batches() for plan in plans(3, epoch=stopped.epoch, samples=stopped.stop)]
    rest = np.concatenate([numbers for rank in left for epoch, numbers in rank if epoch == 0])
    done = epoch_order(COUNTS, seed=7, epoch=0)[: stopped.stop]
    assert sorted(np.concatenate([done, rest])) == list(range(TOTAL))


def test_less_than_two_samples_a_rank_that_a_resume_finds_are_taken_by_all_ranks():
    plans = [TrainingPlan([10], 4, 1, 0, rank, 3, epoch=0, samples=6) for rank in range(3)]
    batches = [[numbers.tolist() for _, numbers in plan.batches()] for plan in plans]
    assert batches == [[epoch_order([10], seed=0, epoch=0)[6:].tolist()]] * 3


def test_the_last_step_of_an_epoch_knows_it():
    steps = list(plans(1)[0].steps())
    assert [step.ends_epoch for step in steps].count(True) == 2
    assert steps[-1].ends_epoch


def test_a_sequential_plan_covers_its_range_in_order():
    batches = [list(numbers) for _, numbers in SequentialPlan(3, 10, 4).batches()]
    assert batches == [[3, 4, 5, 6], [7, 8, 9]]
