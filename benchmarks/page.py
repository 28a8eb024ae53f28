"""Time until the page of `dove serve` is painted, and what the server sends for it, with an empty cache.

    python -m benchmarks.page demo/index/sample --runs 9

Needs playwright and Chromium. Each run opens a new profile. Bytes are those of the access log: compressed bodies, with
the map's worker, whose requests a page does not report. Thumbnails are counted apart.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def visit(browser: Any, address: str) -> tuple[float, float, float]:
    """Return milliseconds until the first paint, the first hit and the map."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".card", timeout=120_000)
    hits = page.evaluate("performance.now()")
    page.wait_for_selector("#map[data-ready]", timeout=120_000)
    shown, paint = page.evaluate("performance.now()"), page.evaluate(PAINT)
    page.wait_for_load_state("networkidle")
    context.close()
    return paint, hits, shown


def sent(log: Path, runs: int) -> tuple[float, float]:
    """Return the bytes of one run without thumbnails, and those of its thumbnails, from the access log of all runs."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    small = sum(line["bytes"] for line in lines if "/thumbnails/" in line["path"])
    return (sum(line["bytes"] for line in lines) - small) / runs, small / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    command = [sys.executable, "-m", "dove_cli", "serve", given.index, "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "access.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True) as server,
        sync_playwright() as driver,
    ):
        assert server.stderr is not None
        address = next(found[1] for line in server.stderr if (found := re.search(r"at (http://\S+)", line)))
        try:
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=SOFTWARE)
            found = [visit(browser, f"{address}/map") for _ in range(given.runs)]
        finally:
            server.terminate()
        server.wait()
        whole, small = sent(Path(log.name), given.runs)
    names = ("first paint, ms", "first hits, ms", "map, ms")
    for name, values in zip(names, zip(*found, strict=True), strict=True):
        print(f"{name}: median {statistics.median(values):,.0f}, from {min(values):,.0f} to {max(values):,.0f}")
    print(f"bytes without thumbnails: {whole:,.0f}; of thumbnails: {small:,.0f}")


if __name__ == "__main__":
    main()
