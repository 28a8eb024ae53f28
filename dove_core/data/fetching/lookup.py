"""From the name that a user gives to the release."""

from __future__ import annotations

from dove_core.data.fetching.catalog import RELEASES, Release, RemoteFile
from dove_core.data.fetching.hub import Repository
from dove_core.data.parquet_images import ENDING
from dove_core.data.splits import split_in
from dove_core.errors import DownloadError, UsageError

HUB = "hf:"


def find_release(name: str) -> Release:
    """Return a release by its name, or any data set of the Hugging Face Hub by `hf:OWNER/NAME`.

    Of a data set of the Hub, the Parquet files are the release, and the Hub is asked which there are. In other names,
    upper case and `_` are accepted too.

    Raises:
        DownloadError: the Hub has no such data set, refuses it or cannot be reached, or there are no Parquet files.
        UsageError: there is no release of that name, or it is not OWNER/NAME.

    >>> dove.find_release("RSICD").name
    'rsicd'
    """
    if name.startswith(HUB):
        return _of_hub(name.removeprefix(HUB))
    release = RELEASES.get(name.lower().replace("_", "-"))
    if release is None:
        hint = f"choose from sample, {', '.join(RELEASES)}, or {HUB}OWNER/NAME, a data set of the Hugging Face Hub"
        raise UsageError(f"there is no release {name!r}", hint=hint)
    return release


def _of_hub(name: str) -> Release:
    repository = Repository.of("dataset", name)
    names = repository.files()
    files = tuple(RemoteFile(path, split=split_in(path)) for path in names if path.lower().endswith(ENDING))
    if not files:
        seen = ", ".join(names[:5]) or "nothing"
        hint = (
            "download it by other means, and give its captions and images to `dove shard --captions ... --images ...`"
        )
        raise DownloadError(f"{repository.page} has no Parquet files; seen: {seen}", hint=hint)
    return Release(
        name=name.replace("/", "-"), base_url=repository.address, files=files, licence=f"see {repository.page}",
        homepage=repository.page, citation=f"see {repository.page}",
    )  # fmt: skip
