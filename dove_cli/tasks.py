"""Options of `dove shard` and `dove embed` that share the work between several machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dove_cli.render import note
from dove_core.errors import UsageError

if TYPE_CHECKING:
    from dove_core.processes import Share

TASKS = "Sharing the work between several machines"
"""Title of these options in the help."""


def share_of(task_id: int | None, num_tasks: int | None, finish: bool, *, makes: str) -> Share:
    """Return the share of the work that this task does, from the options or from the variables of a SLURM array.

    Args:
        task_id: `--task-id`, if given.
        num_tasks: `--num-tasks`, if given.
        finish: `--finish`: the task only puts together what other tasks made.
        makes: what the command makes, for the error message: `shard`.

    Raises:
        UsageError: the options contradict each other, or variables of SLURM are missing.
    """
    from dove_core.processes import Share

    if finish:
        if task_id is not None or num_tasks is not None:
            raise UsageError(f"--finish makes no {makes}", hint="leave out --task-id and --num-tasks")
        return Share(none=True)
    if task_id is None and num_tasks is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        return _share_of_array()
    if (task_id is None) != (num_tasks is None):
        raise UsageError("--task-id and --num-tasks belong together", hint="for example --task-id 0 --num-tasks 16")
    return Share(task_id or 0, num_tasks or 1)


def _share_of_array() -> Share:
    from dove_core.processes import Share

    try:
        values = {name: int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT")}
        step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError) as error:
        message = f"a variable of the SLURM array is missing or invalid: {error}"
        raise UsageError(message, hint="give --task-id and --num-tasks") from error
    number = (values["ID"] - values["MIN"]) // max(step, 1)
    if not 0 <= number < values["COUNT"]:
        message = (
            f"the task numbers of the SLURM array are not evenly spaced: {values['ID']} of {values['COUNT']} tasks"
        )
        raise UsageError(message, hint="use --array=0-N, or give --task-id and --num-tasks")
    share = Share(number, values["COUNT"])
    note(f"SLURM array: task {share.number} of {share.count}")
    return share
