"""Inputs of `dove embed`: shards, tar and Parquet files, folders of images, and GeoTIFF scenes.

Modules, bottom up; each imports only those above it:

    source       the protocol of an input, which consists of parts
    folder       a folder of images
    tar_headers  positions of the files in a tar, from its headers
    tar          tar files with images, captions and metadata
    parquet      Parquet files with images inside
    geotiff      bands, footprint and pixels of a GeoTIFF
    tiles        GeoTIFF scenes cut into tiles
    shards       shards of `dove shard`
    open         the kind of input that a path is
    groups       several inputs of one call
"""
