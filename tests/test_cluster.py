"""The scripts for clusters, run with stand-ins for SLURM's commands; their command lines are parsed by real parsers."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser
from typer.main import get_command

from dove_cli.main import app

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "docs" / "cluster"
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
STAND_IN = """#!{python}
import json, os, pathlib, sys
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with open({log!r}, "a") as stream:
    stream.write(json.dumps([name, *words]) + "\\n")
if name == "srun":
    while words[0].startswith("-"):
        words.pop(0)
    os.execvp(words[0], words)
print({{"scontrol": "node3\\nnode4", "sbatch": "4711;cluster"}}.get(name, ""))
"""


def run(script: str, folder: Path, **variables: str) -> list[list[str]]:
    """Run a script with stand-ins for all programs, which record their command lines; return these."""
    log, bin_ = folder / "called", folder / "bin"
    bin_.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    for name in ("srun", "scontrol", "sbatch", "torchrun", "dove"):
        (bin_ / name).write_text(STAND_IN.format(python=sys.executable, log=str(log)))
        (bin_ / name).chmod(0o755)
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}", **variables}
    done = subprocess.run(
        ["bash", str(CLUSTER / script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


def parsed(words: list[str]) -> dict[str, Any]:
    """Parse a command line of dove by the real options."""
    if words[0] == "torchrun":
        words = ["dove", *launcher(words).training_script_args]
    assert words[0] == "dove"
    command, rest = COMMANDS[words[1]], list(words[2:])
    while subcommands := getattr(command, "commands", None):
        command = subcommands[rest.pop(0)]
    return command.make_context(words[1], rest).params


def launcher(words: list[str]) -> argparse.Namespace:
    """Parse a command line of torchrun by its real options."""
    parsed = get_args_parser().parse_args(words[1:])
    assert parsed.module and parsed.training_script == "dove_cli"
    return parsed


@pytest.mark.parametrize("script", sorted(path.name for path in CLUSTER.glob("*.sbatch")))
def test_scripts_are_accepted_by_the_shell_and_ask_for_what_slurm_knows(script):
    assert subprocess.run(["bash", "-n", str(CLUSTER / script)]).returncode == 0
    lines = (CLUSTER / script).read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    asked = [line for line in lines if line.startswith("#SBATCH")]
    code = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(line in lines[:code] for line in asked)  # those after the first command are ignored
    known = {
        "job-name", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "gpus-per-task", "cpus-per-task", "time",
        "signal", "no-kill", "requeue", "open-mode", "output", "array",
    }  # fmt: skip
    assert {re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line)[1] for line in asked} <= known


def test_the_training_job_runs_torchrun_on_all_machines_and_resumes_when_requeued(tmp_path):
    job = {"SLURM_JOB_NODELIST": "node[3-4]", "SLURM_JOB_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "8",
           "SLURM_JOB_ID": "41"}  # fmt: skip
    called = run("train.sbatch", tmp_path, **job)
    assert called[0] == ["scontrol", "show", "hostnames", "node[3-4]"]
    assert called[1][0] == "srun"
    started, fresh = launcher(called[2]), parsed(called[2])
    assert (started.nproc_per_node, started.nnodes, started.rdzv_endpoint) == ("8", "2:4", "node3:29400")
    assert fresh["gpus"] == 1
    assert not fresh["resume"]
    (tmp_path / "runs/skyscript/last").mkdir(parents=True)
    again = parsed(run("train.sbatch", tmp_path, **job)[2])
    assert again["resume"]
    assert again["run"] == fresh["run"]


def test_the_embedding_job_submits_itself_embeds_and_finishes(tmp_path):
    submitted = run("embed-array.sbatch", tmp_path)
    script = str(CLUSTER / "embed-array.sbatch")
    assert submitted[0] == ["sbatch", "--parsable", script]
    assert submitted[1][:2] == ["sbatch", "--dependency=afterok:4711"]
    assert submitted[1][-1] == script
    *_, task = run("embed-array.sbatch", tmp_path, SLURM_ARRAY_TASK_ID="3")
    *_, last = run("embed-array.sbatch", tmp_path, SLURM_ARRAY_TASK_ID="0", DOVE_FINISH="1")
    assert not parsed(task)["finish"]
    assert parsed(task)["task_id"] is None  # it is the array's
    assert parsed(last) == {**parsed(task), "finish": True}


def test_the_sharding_job_is_an_indexed_job_whose_pods_share_all_tasks():
    job = yaml.safe_load((CLUSTER / "shard-job.yaml").read_text())
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", job["metadata"]["name"])
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert set(spec) == {"completionMode", "completions", "parallelism", "backoffLimit", "template"}
    assert spec["completionMode"] == "Indexed"
    assert 0 < spec["parallelism"] <= spec["completions"]
    assert set(pod) == {"restartPolicy", "containers", "volumes"}
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # a Job takes no other
    (container,) = pod["containers"]
    assert set(container) == {"name", "image", "workingDir", "command", "args", "resources", "volumeMounts"}
    assert set(container["resources"]) == {"requests", "limits"}
    for amounts in container["resources"].values():
        assert all(re.fullmatch(r"\d+(m|Ki|Mi|Gi)?", amount) for amount in amounts.values())
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"] for volume in pod["volumes"]]
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"]
    assert container["command"] == ["sh", "-c"]
    (line,) = container["args"]
    tasks = [parsed(shlex.split(line.replace("$JOB_COMPLETION_INDEX", str(k)))) for k in range(spec["completions"])]
    assert [task["task_id"] for task in tasks] == list(range(spec["completions"]))
    assert {task["num_tasks"] for task in tasks} == {spec["completions"]}


def test_every_command_on_the_page_parses():
    page = (ROOT / "docs" / "scale.md").read_text()
    lines = re.findall(r"^(?:srun .*?)?((?:torchrun|dove) .+)$", page.replace("\\\n", ""), re.M)
    assert len(lines) >= 5
    for line in lines:
        assert parsed(shlex.split(line.split("#")[0]))
    headings = {re.sub(r"\W+", "-", line.lstrip("# ").lower()) for line in page.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (ROOT / "docs" / target).exists(), target
