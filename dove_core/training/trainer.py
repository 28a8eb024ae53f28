"""One process's share of a training: steps, validation, saving."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dove_core.addresses import place_of
from dove_core.config import ComputeConfig
from dove_core.data.batch_plan import Step, TrainingPlan
from dove_core.data.loader import load
from dove_core.data.reader import Shards
from dove_core.encoding.compute import decodes_on_gpu, mixed, mixed_dtype, worker_count
from dove_core.errors import DataError, TrainingError
from dove_core.events import Advanced, Measured, Report, Saved, Skipped, Started
from dove_core.training.average import WeightAverage
from dove_core.training.batches import Batch, MakeBatch
from dove_core.training.interrupt import Interrupt
from dove_core.training.journal import Journal, best_recall
from dove_core.training.optimizer import learning_rate_at, make_optimizer, set_learning_rate
from dove_core.training.result import TrainResult
from dove_core.training.run import Position, RunSettings, load_state, save_best, save_last
from dove_core.training.storage import RunStorage
from dove_core.training.throughput import Throughput
from dove_core.training.trainable import Trainable
from dove_core.training.validation import mean_recall
from dove_core.training.world import World

_REPORT_EVERY = 10
_CHECK_INTERRUPT_EVERY = 10
"""Steps after which several processes check whether one of them was interrupted."""

_TASK = "training"


class Trainer:
    """One process's share of a training."""

    def __init__(
        self,
        world: World,
        report: Report,
        storage: RunStorage,
        settings: RunSettings,
        compute: ComputeConfig,
        shards: Shards,
        field: str,
        trainable: Trainable,
        resumed: bool,
    ) -> None:
        self.world, self.report, self.storage, self.run = world, report, storage, storage.path
        self.settings, self.training, self.compute = settings, settings.training, compute
        self.shards, self.field, self.trainable = shards, field, trainable
        self.objective = trainable.objective.to(world.device)
        if compute.compile == "on":
            trainable.compile()
        groups = trainable.parameter_groups(self.training.weight_decay)
        self.optimizer = make_optimizer(groups, learning_rate=self.training.learning_rate)
        self.scaler = torch.amp.GradScaler(
            world.device.type, enabled=mixed_dtype(world.device, compute.amp, training=True) == torch.float16
        )
        self.position = Position()
        self.average = WeightAverage(trainable.model, self.training.average) if self.training.average else None
        if resumed:
            self.position, state = load_state(self.run)
            self._restore(state)
        trainable.unfreeze_if_due(self.position.epoch)
        self._best = best_recall(self.run) if resumed else -1.0
        self.wrapped = world.data_parallel(self.objective)
        self.journal = Journal(self.run, storage.upload) if world.first else None
        self.history: list[Mapping[str, float]] = []
        self._norm = torch.zeros((), device=world.device)
        count = len(trainable.figures)
        self._loss, self._sums = torch.zeros(count, device=world.device), torch.zeros(count, device=world.device)
        self._batches, self._broken = 0, 0
        self._warmup = self._warmup_share()
        self._epoch_throughput, self._throughput = Throughput(), Throughput()

    def train(self) -> TrainResult:
        """Take the remaining steps.

        Raises:
            TrainingError: no steps remain, or the loss is not finite.
            DataError: shards are damaged, or too many images are.
            KeyboardInterrupt: a signal asked to end; the state is saved.
        """
        plan = TrainingPlan(
            self.shards.counts, self.training.batch_size, self.training.epochs, self.training.seed,
            self.world.rank, self.world.size, self.position.epoch, self.position.samples,
        )  # fmt: skip
        self._check_unfinished(plan)
        total, seen = plan.epochs * len(self.shards), plan.epoch * len(self.shards) + plan.samples
        self.report(Started(_TASK, total, "images", done=seen))
        workers, pins = worker_count(self.compute.workers, self.world.device), self.world.device.type == "cuda"
        reading = load(self.shards, plan, self._make_batch(), workers=workers, pin_memory=pins)
        with Interrupt() as interrupt, closing(reading) as batches:
            taken = 0  # batches of the current step; the last step of an epoch may have fewer
            for step in plan.steps():
                try:
                    with self._throughput.waiting(), self._epoch_throughput.waiting():
                        batch = next(batches)
                except DataError:
                    if not interrupt.requested:
                        raise
                    self._save()  # the signal reached the workers too
                    break
                batch = batch.to(self.world.device).decoded()
                self._count_broken(batch)
                taken += 1
                is_whole = taken == self.training.accumulate or step.ends_epoch
                taken = 0 if is_whole else taken
                self._train_on(step, batch, is_whole)
                if is_whole and (self._finish_step(step) or self._is_interrupted(interrupt, step)):
                    break
        self.world.barrier()
        if self.journal is not None:
            self.journal.close()
            self.storage.upload_rest()
        if interrupt.requested:
            raise KeyboardInterrupt
        best = self._best if self._best >= 0 else None
        return TrainResult(self.storage.location, self.position.steps, best, tuple(self.history))

    def _check_unfinished(self, plan: TrainingPlan) -> None:
        if next(plan.steps(), None) is None:
            message = f"{self.storage.location} has trained all of its {self.training.epochs} epochs"
            raise TrainingError(message, hint="give more with --resume --epochs N, or start another --run")
        if 0 < self.training.max_steps <= self.position.steps:
            message = f"{self.storage.location} has taken its {self.position.steps} steps"
            raise TrainingError(message, hint="give more with --resume --max-steps N; 0 stands for no limit")

    def _make_batch(self) -> MakeBatch:
        training = self.training
        return MakeBatch(
            tokenizer=self.trainable.tokenizer, field=self.field, size=self.trainable.image_size,
            crop_scale=training.crop_scale, turn=training.random_rotation, seed=training.seed,
            count=training.captions_per_picture, paired=training.paired_captions,
            leave_jpegs=decodes_on_gpu(self.world.device, self.compute.decode),
        )  # fmt: skip

    def _warmup_share(self) -> float:
        """Return the share of all steps in which the learning rate rises."""
        images = self.training.batch_size * self.world.size * self.training.accumulate
        steps = math.ceil(len(self.shards) / images) * self.training.epochs
        return min(1.0, self.training.warmup_steps / steps) if self.training.warmup_steps else self.training.warmup

    def _train_on(self, step: Step, batch: Batch, is_whole: bool) -> None:
        """Add the gradients of one batch; take the step if `is_whole` (`accumulate` makes steps of several batches)."""
        # Dropout depends only on (seed, samples seen, rank), so a resumed run draws the same.
        chance = np.random.SeedSequence((self.training.seed, step.epoch, step.start, self.world.rank))
        torch.manual_seed(int(chance.generate_state(1)[0]))
        counts = [share.stop - share.start for share in step.shares(self.world.size)]
        with self.world.no_sync(self.wrapped) if not is_whole else nullcontext():
            with mixed(self.world.device, self.compute.amp, training=True):
                losses = self.wrapped(batch, counts)
            self.scaler.scale(losses[0] / self.training.accumulate).backward()
        self._loss = torch.stack([part.detach().float() for part in losses])
        self._sums += self._loss
        self._batches += 1
        self._throughput.advance(step.stop - step.start)
        self._epoch_throughput.advance(step.stop - step.start)
        if is_whole:
            self._step(step)
        self.report(Advanced(_TASK, step.stop - step.start))

    def _step(self, step: Step) -> None:
        progress = (step.epoch + (step.start + step.stop) / 2 / step.total) / self.training.epochs
        rate = learning_rate_at(progress, warmup=self._warmup, highest=self.training.learning_rate)
        set_learning_rate(self.optimizer, rate)
        self.scaler.unscale_(self.optimizer)
        limit = self.training.grad_clip or float("inf")
        self._norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.trainable.after_step()
        self.position = dataclasses.replace(
            self.position, epoch=step.epoch, samples=step.stop, steps=self.position.steps + 1
        )
        if self.average is not None:
            self.average.update(self.trainable.model, self.position.steps)
        if self.position.steps % _REPORT_EVERY == 0:
            self._check_finite(self._loss[0])
            losses = dict(zip(self.trainable.figures, self._loss.tolist(), strict=True))
            figures = {"learning_rate": rate, "gradient_norm": self._norm.item()}
            self.report(Measured(_TASK, {"epoch": step.epoch + 1, "loss": losses["loss"], **figures}))
            if self.journal is not None:
                self.journal.step(self.position.steps, {**losses, **figures, **self._throughput.figures()})
            self._throughput.restart()

    def _count_broken(self, batch: Batch) -> None:
        """Count images that cannot be decoded; too many are an error."""
        self._broken += len(batch.broken)
        if batch.broken and self._broken > self.training.max_broken * len(self.shards) / self.world.size:
            message = f"{self._broken} images cannot be decoded, such as {batch.broken[0]}"
            hint = f"shard again with --verify full, or allow more with --max-broken (now {self.training.max_broken:g})"
            raise DataError(message, hint=hint)
        if batch.broken:
            self.report(Skipped(_TASK, "broken image", len(batch.broken), batch.broken[0]))

    def _is_interrupted(self, interrupt: Interrupt, step: Step) -> bool:
        """Tell whether any process got a signal to end; save if so."""
        if self.world.size > 1 and self.position.steps % _CHECK_INTERRUPT_EVERY:
            return False
        if not self.world.any(interrupt.requested):
            return False
        interrupt.requested = True
        if not step.ends_epoch:
            self._save()
        return True

    def _finish_step(self, step: Step) -> bool:
        """Validate and save if due; tell whether training stops here."""
        stop = self.training.max_steps > 0 and self.position.steps >= self.training.max_steps
        if step.ends_epoch:
            self._end_epoch(step)
        elif stop or (self.training.save_steps and self.position.steps % self.training.save_steps == 0):
            self._save()
        if stop and self.world.first and not self.storage.has("best"):
            self._save_best()  # no epoch was validated, but later commands need a checkpoint
        return stop

    def _end_epoch(self, step: Step) -> None:
        self._check_finite(self._sums[0])
        losses = dict(zip(self.trainable.figures, (self._sums / self._batches).tolist(), strict=True))
        figures = losses | self._epoch_throughput.figures()
        figures = self.world.mean(figures) | {"epoch": step.epoch + 1, "steps": self.position.steps}
        self.position = dataclasses.replace(self.position, epoch=step.epoch + 1, samples=0)
        last = step.epoch + 1 == self.training.epochs
        self._save()  # first, since validation may fail
        if self.world.first:
            self._choose_best(figures, due=last or (step.epoch + 1) % self.training.validate_every == 0)
            assert self.journal is not None
            self.journal.epoch(figures)
            self.history.append(figures)
            self.report(Measured(_TASK, figures, final=True))
        self.world.barrier()
        self._sums.zero_()
        self._batches, self._broken = 0, 0
        self._throughput.restart()
        self._epoch_throughput.restart()
        if self.trainable.unfreeze_if_due(self.position.epoch):
            self.wrapped = self.world.data_parallel(self.objective)

    def _choose_best(self, figures: dict[str, float], *, due: bool) -> None:
        """Validate if due, and save the best; without a validation split, the last epoch is the best."""
        if self.settings.validation and due:
            folder = place_of(self.settings.validation, self.storage.cache)
            encoder = self.trainable.encoder(self._model_to_save())
            figures["mean_recall"] = mean_recall(encoder, folder, self.compute, self.training.batch_size)
            self.trainable.train()
            if figures["mean_recall"] <= self._best:
                return
            self._best = figures["mean_recall"]
        elif self.settings.validation:
            return
        self._save_best()

    def _save(self) -> None:
        self._check_finite(self._loss[0])
        if not self.scaler.is_enabled():  # a scaler skips steps whose gradients overflow
            self._check_finite(self._norm)
        if not self.world.first:
            return
        parts: dict[str, Any] = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        own = "" if self.average is None else "model."  # the checkpoint has the average instead
        parts["objective"] = {k: v for k, v in self.objective.state_dict().items() if own or not k.startswith("model.")}
        save_last(self.run, self._save_model, self.position, parts)
        self.storage.upload("last")
        self.report(Saved(self.storage.address_of("last")))

    def _save_best(self) -> None:
        save_best(self.run, self._save_model)
        self.storage.upload("best")
        self.report(Saved(self.storage.address_of("best")))

    def _save_model(self, folder: Path) -> None:
        self.trainable.save(folder, self._model_to_save())

    def _model_to_save(self) -> nn.Module:
        """Return the model to validate and save: the one with averaged weights if there is one."""
        return self.trainable.model if self.average is None else self.average.model

    def _restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if saved in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.objective.load_state_dict(state["objective"], strict=False)

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            message = f"loss or gradient is {loss.item()} at step {self.position.steps}"
            rest = "; last/ holds the state before" if self.storage.has("last") else ""
            raise TrainingError(message, hint=f"lower --learning-rate, or try --no-amp{rest}")
