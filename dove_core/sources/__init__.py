"""Inputs of `dove embed`: shards, tar and Parquet files, folders of images, and scenes such as GeoTIFFs.

Modules, bottom up; each imports only those above it:

    source       the protocol of an input, which consists of parts
    metadata     captions and metadata in a JSON or a text beside an image
    folder       a folder of images
    tar_headers  positions of the files in a tar, from its headers
    tar          tar files with images, captions and metadata
    parquet      Parquet files with images inside
    band_files   scenes whose bands are separate files
    position     footprint and ground sample distance of a window of a scene
    geotiff      properties of a scene, and pixels of its tiles
    tiles        scenes cut into tiles
    shards       shards of `dove shard`
    open         the kind of input that a path is
"""
