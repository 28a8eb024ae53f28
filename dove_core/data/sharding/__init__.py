"""From captions and images to tar shards: fast, exact, and resumed after an interruption.

Modules, bottom up:

    tar            tar files whose every byte is determined
    depth          what of an image's bits and bands Pillow cannot show, by the header of its file
    raster         such images, read with rasterio and brought to 8 bits as scenes are
    image          the check of an image, made smaller if wanted
    meta           SkyScript's pickled metadata, read without running code
    caption_table  the captions of one split as columns
    caption_rows   the rows of a caption file, divided into splits
    csv_captions   the rows of a CSV
    json_captions  the rows of a JSON, in Karpathy's form and others
    caption_files  a caption file of any form
    distinct       one sample for each image, one key for each sample
    member_reader  members of zips and files of folders, read one by one
    row_images     images in rows of Parquet files, read one by one
    name_lookup    files found by the ends of their paths
    archives       the index that finds images and metadata by path
    shard_plan     which rows make which shard
    archive_sources  zips and folders as the sources of shards
    parquet_table  captions in Parquet files with images inside, and their splits
    parquet_sources  such files as the sources of shards
    prepare        a row, turned into a sample with its image, or a reason why not
    sidecar        the Parquet table beside a tar
    shard_task     the task that makes one shard
    kept_shards    the shards that earlier runs finished
    finish         the end of a split: reports and the manifest
    shards         all splits of a release, or of your own captions and images
    verify_shards  the check of every byte against manifest and markers
"""
