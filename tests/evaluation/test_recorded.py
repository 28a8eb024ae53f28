"""Results in the run folder: a measurement is repeated only if something changed or on request."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from dove_core.config import EvalConfig, RankConfig
from dove_core.evaluation.measure import EvaluationInput, EvaluationRequest, measure
from dove_core.evaluation.recorded import FOLDER
from dove_core.events import Started
from tests.cli.test_commands import dove
from tests.conftest import ALONE


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns(FOLDER))


def test_the_second_result_is_read_from_the_run_folder(run, shapes):
    request, source = EvaluationRequest(run / "best", compute=ALONE), EvaluationInput(shapes / "test")
    events = []
    (first,) = measure(request, source, report=events.append)
    assert any(isinstance(event, Started) for event in events)
    assert not first.was_known
    events.clear()
    (second,) = measure(request, source, report=events.append)
    assert second.was_known
    assert not events
    assert second.result == json.loads(json.dumps(first.result))


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation": EvalConfig(rerank=3)},
        {"ranking": RankConfig(rank_by="pair")},
        {"compute": dataclasses.replace(ALONE, amp=True)},
        {"force": True},
        {"with_section": True},
    ],
    ids=str,
)
def test_a_change_that_can_affect_the_result_is_measured_again(run, shapes, change):
    request, source = EvaluationRequest(run / "best", compute=ALONE), EvaluationInput(shapes / "test")
    measure(request, source)
    (again,) = measure(dataclasses.replace(request, **change), source)
    assert not again.was_known


def test_other_weights_and_data_are_measured_and_other_workers_are_not(run, shapes):
    request = EvaluationRequest(run / "best", compute=ALONE)
    measure(request, EvaluationInput(shapes / "test"))
    assert not measure(request, EvaluationInput(shapes / "val"))[0].was_known
    assert not measure(dataclasses.replace(request, checkpoint=run / "last"), EvaluationInput(shapes / "val"))[
        0
    ].was_known
    more = dataclasses.replace(request, compute=dataclasses.replace(ALONE, workers=1))
    assert measure(more, EvaluationInput(shapes / "test"))[0].was_known


def test_a_damaged_record_is_measured_again_and_a_checkpoint_outside_a_run_has_no_records(run, shapes, tmp_path):
    request, source = EvaluationRequest(run / "best", compute=ALONE), EvaluationInput(shapes / "test")
    measure(request, source)
    (record,) = (run / FOLDER).iterdir()
    record.write_text("{")
    assert not measure(request, source)[0].was_known
    assert measure(request, source)[0].was_known
    lone = shutil.copytree(run / "best", tmp_path / "lone" / "best")
    for _ in range(2):
        assert not measure(dataclasses.replace(request, checkpoint=lone), source)[0].was_known
    assert [path.name for path in lone.parent.iterdir()] == ["best"]


def test_the_command_notes_a_known_result_and_force_measures_again(run, shapes):
    words = ("eval", "--checkpoint", str(run / "best"), "--shards", str(shapes / "test"), "--device", "cpu")
    code, first, err = dove(*words, "--workers", "0")
    assert code == 0, err
    code, second, err = dove(*words, "--workers", "0")
    assert code == 0
    assert second == first
    assert "stored result" in err
    assert "--force" in err
    code, third, err = dove(*words, "--workers", "0", "--force")
    assert "stored result" not in err
    assert third == first
