"""Make the images of docs/assets/ from the demo, with a browser: `make demo && python docs/screenshots.py demo`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ASSETS = Path(__file__).with_name("assets")
QUERY = ("query", "airport runway", "--top", "12")
EVALUATE = ("eval", "--protocol", "captions-5", "--bootstrap", "200")


def main() -> None:
    """Run the commands in the folder of the demo, and take pictures of what they write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `make demo` filled")
    parser.add_argument("--browser", default="chromium", help="Chromium or Chrome")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        page, words, report = made / "page.html", made / "words.png", made / "report.html"
        run_dove(options.demo, *QUERY, "--html", page, "--explain", words)
        run_dove(options.demo, *EVALUATE, "--report", report)
        shoot(options.browser, page, made / "page.png", 1000)
        shoot(options.browser, report, made / "report.png", 1300)
        for image in (made / "page.png", made / "report.png", words):
            name = "explain.png" if image is words else image.name
            shrink(image, ASSETS / name)


def run_dove(folder: Path, *words: str | Path) -> None:
    """Run a command of dove in a folder."""
    subprocess.run([sys.executable, "-m", "dove_cli", *map(str, words)], cwd=folder, check=True)


def shoot(browser: str, page: Path, image: Path, height: int) -> None:
    """Write an image of the first `height` pixels of a page, 1,200 pixels wide."""
    subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000",
         f"--window-size=1200,{height}", f"--screenshot={image}", page.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip


def shrink(source: Path, target: Path) -> None:
    """Write an image of at most 1,200 pixels width with 128 colours, which keeps the repository small."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((1200, 4000))
    image.quantize(128).save(target, optimize=True)
    print(f"saved {target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
