"""Make the images of docs/assets/ from the demo: `make demo && python docs/screenshots.py demo`.

Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ASSETS = Path(__file__).with_name("assets")
DOVE = (sys.executable, "-m", "dove_cli")
QUERY = ("query", "airport runway", "--top", "12")
EVALUATE = ("eval", "--protocol", "captions-5", "--bootstrap", "200")
SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
SERVED = {
    "serve.jpg": ("q=airport+runway", (1440, 900), "light", ()),
    "serve-chosen.jpg": ("q=storage+tanks", (1440, 900), "dark", (".card >> nth=1 >> .frame", ".explain")),
    "serve-phone.jpg": ("q=harbour", (390, 844), "light", ()),
}
"""Image of `dove serve`: the search, the size, the colours, and what is clicked."""


def main() -> None:
    """Run the commands in the folder of the demo, and write images of what they make."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `make demo` filled")
    parser.add_argument("--browser", default="/usr/bin/chromium", help="Chromium or Chrome")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.browser, args=SOFTWARE)
        write_files(browser, options.demo)
        with serving(options.demo) as address:
            for name in SERVED:
                shoot_server(browser, address, name)


def write_files(browser: Browser, demo: Path) -> None:
    """Write page.png, report.png and explain.png, of the files that `dove query` and `dove eval` write."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        page, words, report = made / "page.html", made / "explain.png", made / "report.html"
        subprocess.run([*DOVE, *QUERY, "--html", page, "--explain", words], cwd=demo, check=True)
        subprocess.run([*DOVE, *EVALUATE, "--report", report], cwd=demo, check=True)
        for html, height in ((page, 1000), (report, 1300)):
            tab = browser.new_page(viewport={"width": 1200, "height": height})
            tab.goto(html.as_uri())
            tab.wait_for_load_state("networkidle")
            tab.screenshot(path=html.with_suffix(".png"))
            tab.close()
        for image in (page.with_suffix(".png"), report.with_suffix(".png"), words):
            shrink(image, ASSETS / image.name)


def shrink(source: Path, target: Path) -> None:
    """Write an image of at most 1,200 pixels width with 128 colours, which keeps the repository small."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((1200, 4000))
    image.quantize(128).save(target, optimize=True)
    report_saved(target)


@contextmanager
def serving(demo: Path) -> Iterator[str]:
    """Serve the only index of a folder; yield the address."""
    command = [*DOVE, "serve", "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, cwd=demo, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield next(found[1] for line in server.stderr if (found := re.search(r"at (http://\S+)", line)))
        finally:
            server.terminate()


def shoot_server(browser: Browser, address: str, name: str) -> None:
    """Write one image of the page of `dove serve`."""
    search, (width, height), colours, clicks = SERVED[name]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colours, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(400_000)
    page.goto(f"{address}/map?{search}")
    page.wait_for_selector("#map[data-ready]")
    for one in clicks:
        page.click(one)
        page.wait_for_load_state("networkidle")
    if clicks:
        page.wait_for_selector("#detail canvas")
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)  # the map draws its tiles
    page.screenshot(path=ASSETS / name, type="jpeg", quality=86)
    context.close()
    report_saved(ASSETS / name)


def report_saved(target: Path) -> None:
    """Print the path and the size of a file."""
    print(f"saved {target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
