"""Variables of SLURM: which processes are tasks of one training, and their address."""

from __future__ import annotations

import pytest

from dove_core.errors import UsageError
from dove_core.training.slurm import srun_variables

TASK = {
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_JOB_NODELIST": "gpu[01-08]", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9",
    "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "2",
}  # fmt: skip


def without(*names: str, **others: str) -> dict[str, str]:
    return {name: value for name, value in TASK.items() if name not in names} | others


def test_tasks_of_one_step_meet_on_its_first_machine():
    found = srun_variables(TASK)
    assert found == {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "12289"
    }  # fmt: skip
    assert srun_variables(without("SLURM_STEP_NUM_TASKS"))["WORLD_SIZE"] == "8"
    assert srun_variables(without("SLURM_STEP_ID"))["MASTER_PORT"] != found["MASTER_PORT"]


def test_master_addr_and_master_port_are_used_if_set():
    found = srun_variables(without(MASTER_ADDR="node9", MASTER_PORT="29500"))
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("node9", "29500")


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("a", "a"), ("a,b", "a"), ("n[03-05,9],x", "n03"), ("n[7]", "n7"), ("r[1-2]-n[4-5]", "r1-n4"),
        ("n1.de,b", "n1.de"),
    ],
)  # fmt: skip
def test_the_first_machine_of_a_list_is_found(hosts, first):
    assert srun_variables(without(SLURM_STEP_NODELIST=hosts))["MASTER_ADDR"] == first


def test_without_a_list_the_machine_of_srun_is_used_and_without_that_it_is_an_error():
    lists = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
    assert srun_variables(without(*lists))["MASTER_ADDR"] == "10.0.0.9"
    with pytest.raises(UsageError, match="task 3 of 4 cannot find the first machine: MASTER_ADDR") as caught:
        srun_variables(without(*lists, "SLURM_LAUNCH_NODE_IPADDR"))
    assert "export MASTER_ADDR" in caught.value.hint


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "41", "SLURM_NTASKS": "4"},  # a shell of salloc
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "a,b"},  # a batch script
        without(SLURM_STEP_NUM_TASKS="1"),  # srun --ntasks 1 in a job of many
        without(RANK="0", WORLD_SIZE="2"),  # torchrun below srun
    ],
)
def test_other_processes_train_alone(environment):
    assert srun_variables(environment) is None


def test_a_variable_that_is_not_a_number_is_an_error():
    with pytest.raises(UsageError, match="SLURM_PROCID='x' is not a number"):
        srun_variables(without(SLURM_PROCID="x"))
