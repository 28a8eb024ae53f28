"""The search index: embedding parts, the files made from them, filters and nearest-neighbour search.

Modules, bottom up; each imports only those above it:

    rows        the metadata of every row, mapped from one Arrow file
    columns     writing of that file from embedding parts
    codes       coarse codes of the vectors, and exact scans, with faiss
    nearest     the rows nearest to a query
    filters     the rows that pass filters by place, time, source, resolution and tags
    images      the image of a row, read from the files that were embedded
    regions     regions of the images, stored for re-ranking
    parts       embedding parts: one Parquet file per shard, tar or group of images
    manifest    index.json: the rows of an index, and the inputs they are from
    locks       locks of the writers and readers of an index
    segments    the rows of some parts, in files that never change
    searchable  the protocol of an index, on disk or on a server
    model       the model that made an index
    disk        an index on disk
    known       images of an index, which need not be encoded again
    part_plan   the parts that an index needs, and which of them are finished
    update      from an index and the inputs of a call to the parts that it needs
    tasks       making of embedding parts, in one process or several
    build       making of an index from its parts
    export      an index in the layout of clip-retrieval
    embed       from images to an index
    verify      comparison of an index with its parts and images
    milvus      an index in a Milvus collection
"""
