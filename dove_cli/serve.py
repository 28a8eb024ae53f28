"""`dove serve`: indexes over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from dove_cli.defaults import find_checkpoint, find_index
from dove_cli.render import reporting
from dove_core.config import CacheConfig, ServeConfig
from dove_core.places import Place


def serve(
    settings: ServeConfig,
    cache: CacheConfig,
    indexes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Indexes: names below index/, folders, s3://bucket/folder, or collections in Milvus. "
            "[default: the only index]"
        ),
    ] = None,
    checkpoint: Annotated[
        Place | None, typer.Option(help="Checkpoint that made the only index, if it was moved.")
    ] = None,
    shards: Annotated[
        Place | None, typer.Option(help="Shards, images or tars of the only index, if they were moved.")
    ] = None,
) -> None:
    """Serve indexes over HTTP: a page with a map, a STAC API with free text, and the protocol of clip-retrieval.

    The address is printed on standard error. Ctrl-C or SIGTERM ends the server when requests in flight are answered. An
    index that is made again meanwhile is opened when it is complete.

    - `dove serve`
    - `dove serve sample --port 9000`
    - `dove serve index/a index/b --host 0.0.0.0 --token-file secret`
    """
    from dove_core.index.milvus.address import is_address
    from dove_core.serve.server import serve as serve_indexes

    names: list[str | None] = [*indexes] if indexes else [None]
    found = [one if one and is_address(one) else find_index(one, cache, "dove serve NAME") for one in names]
    model = checkpoint and find_checkpoint(checkpoint)
    with reporting() as report:
        serve_indexes(found, settings, checkpoint=model, shards=shards, report=report)
