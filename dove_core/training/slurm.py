"""Tasks that `srun` started: SLURM's variables as those that torch reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from dove_core.errors import UsageError

_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_FIRST_PORT, _PORTS = 12000, 16000


def srun_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Return RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT of a task among several of `srun`, else None.

    A batch script itself also has SLURM_PROCID (0) and SLURM_NTASKS; a task of `srun` has SLURM_STEP_NUM_TASKS, or
    a SLURM_PROCID above 0, or a MASTER_ADDR that the user exported. If MASTER_ADDR and MASTER_PORT are set, they are
    used; otherwise they are the first machine of the step and a port computed from the job's number.

    Raises:
        UsageError: a variable is not a number, or the first machine is not known.
    """
    own = {name: value for name, value in environment.items() if name.startswith("SLURM_")}
    if "SLURM_PROCID" not in own or "RANK" in environment:
        return None
    rank, step = _number(own, "SLURM_PROCID"), "SLURM_STEP_NUM_TASKS"
    if step not in own and rank == 0 and "MASTER_ADDR" not in environment:
        return None
    size = _number(own, step if step in own else "SLURM_NTASKS", "1")
    if size < 2:
        return None
    host = environment.get("MASTER_ADDR") or next((own[name] for name in _LISTS if own.get(name)), "")
    host = _first_host(host) or own.get("SLURM_LAUNCH_NODE_IPADDR", "")
    if not host:
        message = f"SLURM task {rank} of {size} cannot find the first machine: MASTER_ADDR is not set"
        hint = "export MASTER_ADDR with the name of the first machine; for a separate training: env -u SLURM_PROCID"
        raise UsageError(message, hint=hint)
    port = environment.get("MASTER_PORT") or str(
        _FIRST_PORT + (_number(own, "SLURM_JOB_ID", "0") * 7 + _number(own, "SLURM_STEP_ID", "0")) % _PORTS
    )
    local = str(_number(own, "SLURM_LOCALID", "0"))
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": local, "MASTER_ADDR": host, "MASTER_PORT": port}


def _number(own: Mapping[str, str], name: str, otherwise: str = "") -> int:
    value = own.get(name, otherwise)
    if not value.isdigit():
        raise UsageError(f"{name}={value!r} is not a number", hint="start the tasks with srun, or use torchrun")
    return int(value)


def _first_host(hosts: str) -> str:
    """Return the first host of a list: node03 for `node[03-05,9],other`."""
    first = re.match(r"(?:[^,\[\]]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0]) if first else ""
