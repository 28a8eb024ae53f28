"""The server of clip-retrieval (2.45, PyPI) on the vectors of an index of ours, for `benchmarks.serving`.

    PYTHON -m benchmarks.clip_retrieval_server WORK PORT

PYTHON is an interpreter of an environment with clip-retrieval and dove. WORK has been filled by `prepare`. The model is
not loaded, as the benchmark asks with embeddings; everything else is its own code. The index is faiss's IndexFlatIP,
which is exact: faster kinds, which its own tools build, miss images.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import faiss
import numpy as np
import pandas as pd

from dove_core.index.disk import SearchIndex

INDEX = "made"


def prepare(index: Path, work: Path) -> None:
    """Write the vectors and the metadata of an index as clip-retrieval stores them."""
    found = SearchIndex(index)
    flat = faiss.IndexFlatIP(found.vectors.shape[1])
    for start in range(0, len(found), 65536):
        flat.add(np.asarray(found.vectors[start : start + 65536], np.float32))
    work.mkdir()
    faiss.write_index(flat, str(work / "image.index"))
    keys = [f"a{number}_US_19" for number in range(len(found))]
    table = pd.DataFrame({"image_path": keys, "caption": [f"a drawn place {k}" for k in range(len(found))]})
    (work / "metadata").mkdir()
    table.to_parquet(work / "metadata" / "metadata_0.parquet")
    (work / "indices.json").write_text(json.dumps({INDEX: str(work)}))


def main() -> None:
    """Serve."""
    import all_clip  # noqa: PLC0415  # in the other environment only
    from clip_retrieval.clip_back import clip_back  # noqa: PLC0415

    all_clip.load_clip = lambda *_, **__: (None, None, None)
    clip_back(
        str(Path(sys.argv[1]) / "indices.json"),
        port=int(sys.argv[2]),
        enable_mclip_option=False,
        provide_aesthetic_embeddings=False,
        columns_to_return=["image_path", "caption"],
    )


if __name__ == "__main__":
    main()
