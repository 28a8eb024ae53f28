"""Write the images of docs/serving.md, from the index that `make demo` leaves in demo/.

    python docs/serving/write_screenshots.py demo

Needs playwright and Chromium.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parents[1]
SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
SHOTS = {
    "serve": ("q=airport+runway", (1440, 900), "light", []),
    "serve-chosen": ("q=storage+tanks", (1440, 900), "dark", [".card >> nth=1 >> .frame", ".explain"]),
    "serve-phone": ("q=baseball+field", (390, 844), "light", []),
}
"""Name of the image: the search, the size, the colours, and what is clicked."""


def main(folder: Path) -> None:
    """Serve the only index of a folder, and write all images."""
    command = [sys.executable, "-m", "dove_cli", "serve", "--port", "0", "--no-access-log"]
    with (
        subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server,
        sync_playwright() as driver,
    ):
        assert server.stderr is not None
        address = next(found[1] for line in server.stderr if (found := re.search(r"at (http://\S+)", line)))
        try:
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=SOFTWARE)
            for name in SHOTS:
                shoot(browser, f"{address}/map", name)
        finally:
            server.terminate()


def shoot(browser: Any, address: str, name: str) -> None:
    """Write one image."""
    search, (width, height), colours, clicks = SHOTS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colours, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(400_000)
    page.goto(f"{address}?{search}")
    page.wait_for_selector("#map[data-ready]")
    for one in clicks:
        page.click(one)
        page.wait_for_load_state("networkidle")
    if clicks:
        page.wait_for_selector("#detail canvas")
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)  # the map draws its tiles
    path = DOCS / f"{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=86)
    print(path, path.stat().st_size)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
