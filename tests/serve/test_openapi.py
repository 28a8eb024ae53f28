"""Requests made from the OpenAPI document by schemathesis: no answer is a fault of the server."""

from __future__ import annotations

import subprocess
import sys


def test_no_request_made_from_the_openapi_document_is_a_fault_of_the_server(server, tmp_path):
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api", "--checks", "not_a_server_error",
        "--phases", "examples,fuzzing", "--max-examples", "8", "--seed", "1", "--suppress-health-check", "all",
        "--request-timeout", "30", "--generation-database", "none",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in server.err.read_text()
