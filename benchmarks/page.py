"""Time until the page of `dove serve` is painted, and what it transfers, with an empty cache.

    python -m benchmarks.page demo/index/sample --runs 9

Needs playwright and Chromium. Each run opens a new profile. Thumbnails are counted apart.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from typing import Any

from playwright.sync_api import sync_playwright

SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def visit(browser: Any, address: str) -> tuple[float, float, float, int, int]:
    """Return milliseconds until the first paint, the first hit and the map, and bytes without and of thumbnails."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, answered = context.new_page(), list[Any]()
    page.on("requestfinished", lambda request: answered.append(request))
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".card", timeout=120_000)
    hits = page.evaluate("performance.now()")
    page.wait_for_selector("#map[data-ready]", timeout=120_000)
    shown, paint = page.evaluate("performance.now()"), page.evaluate(PAINT)
    page.wait_for_load_state("networkidle")
    sizes = {request.url: request.sizes()["responseBodySize"] for request in answered}
    context.close()
    small = sum(size for url, size in sizes.items() if "/thumbnails/" in url)
    return paint, hits, shown, sum(sizes.values()) - small, small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    command = [sys.executable, "-m", "dove_cli", "serve", given.index, "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as driver:
        assert server.stderr is not None
        address = next(found[1] for line in server.stderr if (found := re.search(r"at (http://\S+)", line)))
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=SOFTWARE)
        found = [visit(browser, f"{address}/map") for _ in range(given.runs)]
        browser.close()
        server.terminate()
    names = ("first paint, ms", "first hits, ms", "map, ms", "bytes without thumbnails", "bytes of thumbnails")
    for name, values in zip(names, zip(*found, strict=True), strict=True):
        print(f"{name}: median {statistics.median(values):,.0f}, from {min(values):,.0f} to {max(values):,.0f}")


if __name__ == "__main__":
    main()
