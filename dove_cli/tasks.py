"""One plan on several machines: which part of it this one does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dove_cli.render import note
from dove_core.errors import UsageError

if TYPE_CHECKING:
    from dove_core.processes import Share

TASKS = "Several machines on one plan"
"""Panel of the options."""


def share_of(task_id: int | None, num_tasks: int | None, finish: bool, *, makes: str) -> Share:
    """Return which part to do: as told, or as a SLURM array's variables say.

    Args:
        task_id: `--task-id`, if given.
        num_tasks: `--num-tasks`, if given.
        finish: whether nothing is to be made.
        makes: what the command makes, for the error: `shard`.

    Raises:
        UsageError: the options do not fit together, or SLURM's variables are not complete.
    """
    from dove_core.processes import Share

    if finish:
        if task_id is not None or num_tasks is not None:
            raise UsageError(f"--finish makes no {makes}", hint="leave --task-id and --num-tasks out")
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
        message = f"the SLURM array's variables are not complete: {error}"
        raise UsageError(message, hint="say it yourself: --task-id and --num-tasks") from error
    number = (values["ID"] - values["MIN"]) // max(step, 1)
    if not 0 <= number < values["COUNT"]:
        message = f"the SLURM array of {values['COUNT']} tasks is not numbered evenly: {values['ID']} is out of turn"
        raise UsageError(message, hint="use --array=0-N, or say it yourself: --task-id and --num-tasks")
    share = Share(number, values["COUNT"])
    note(f"SLURM array: task {share.number} of {share.count}")
    return share
