"""Sharding at SkyScript's number of rows: growth of time and memory, and time of planning.

    python -m benchmarks.shard_rows --rows 250000 500000 1000000 --plan 2600000

Releases of tiny images (a JPEG of 16 x 16 pixels, with metadata) are sharded by `dove shard`, whole processes. Printed
for each: seconds, the ratio of the seconds per row to those of the first release (1.0: linear), and the peak memory of
the largest process. Then a table of `--plan` rows, in SkyScript's form and size, is planned but not sharded.
"""

from __future__ import annotations

import argparse
import csv
import io
import pickle
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
META = pickle.dumps({"box": (8.0, 47.0, 8.1, 47.1), "time": (2019, 7, 3, 10, 20), "center_tags": {"aeroway": "runway"}})
PLAN = """
import sys
from pathlib import Path
from dove_core.config import ShardConfig
from dove_core.data.sharding.archive_sources import ArchiveSources
from dove_core.data.sharding.caption_table import read_caption_csv
from dove_core.data.sharding.shard_plan import make_plan
table, images, out = map(Path, sys.argv[1:])
plan = make_plan(read_caption_csv(table), ArchiveSources(images), ShardConfig(), out)
print(plan.rows, "rows in", len(plan), "shards,", plan.file.stat().st_size // 10**6, "MB of plan")
"""


def make_release(folder: Path, rows: int) -> Path:
    """Write caption table, images and metadata; return the table's path."""
    folder.mkdir(parents=True)
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "olive").save(stream, "JPEG")
    table = folder / "rows_train.csv"
    with (
        zipfile.ZipFile(folder / "images2.zip", "w") as images,
        zipfile.ZipFile(folder / "meta2.zip", "w") as metas,
        table.open("w", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(["filepath", "title", "title_multi_objects"])
        for i in range(rows):
            images.writestr(f"images2/a{i}_CH_19.jpg", stream.getvalue())
            metas.writestr(f"meta2/a{i}_CH_19.pickle", META)
            title = f"airport of aeroway, runway, number {i}"
            more = "surrounded by landuse of residential; road of service; natural of wood"
            writer.writerow([f"images2/a{i}_CH_19.jpg", title, f"{title}, {more}"])
    return table


def run(command: list[str]) -> tuple[float, float, str]:
    """Run a command; return seconds, MiB of its largest process, and its last line."""
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "print((done.stdout + done.stderr).strip().splitlines()[-1])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    line, memory = done.stdout.strip().splitlines()
    return time.perf_counter() - begin, int(memory) / 1024, line


def main() -> None:
    """Shard releases of growing size, then plan a large one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--plan", type=int, default=2_600_000)
    options = parser.parse_args()
    first = None
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="dove-bench-") as folder:
            table, out = make_release(Path(folder) / "release", rows), Path(folder) / "out"
            command = [
                sys.executable,
                "-m",
                "dove_cli",
                "shard",
                "--captions",
                str(table),
                "--images",
                str(table.parent),
            ]
            seconds, memory, line = run([*command, "--name", "rows", "--out", str(out)])
            first = first or seconds / rows
            ratio = seconds / rows / first
            print(f"{rows} rows: {seconds:.1f} s, {ratio:.2f} of the first's seconds a row, {memory:.0f} MiB; {line}")
    if options.plan:
        with tempfile.TemporaryDirectory(prefix="dove-bench-") as folder:
            table = make_release(Path(folder) / "release", options.plan)
            paths = [str(table), str(table.parent), str(Path(folder) / "plan")]
            seconds, memory, line = run([sys.executable, "-c", PLAN, *paths])
            print(f"planning: {seconds:.1f} s, {memory:.0f} MiB; {line}; table of {table.stat().st_size // 10**6} MB")


if __name__ == "__main__":
    main()
