"""From a dataset release on a server to captions and images, to tar shards, to batches.

Modules, bottom up:

    sample      an image's captions and metadata, their cleaning, and their JSON in a tar
    jpegs       JPEGs decoded, and the side that is up
    manifest    the files of a split's folder: names, done-markers, the manifest
    reader      the samples of a split's shards, read by number
    samples     images of any input, read by number
    batch_plan  which samples make which batch
    prefetch    shards in a bucket, downloaded before they are read
    loader      batches, read and transformed by worker processes
    file_kinds  what a file is by its first bytes
    splits      the split that a name stands for
    caption_forms  the forms in which tables hold captions
    band_names  red, green and blue among bands, by their names
    bands       which bands of a raster are red, green and blue, which pixels have data, and the stretch of values
    zips        zip archives as columns
    parquet_columns  which columns of a Parquet file hold images, names and captions
    parquet_images  Parquet files with images inside, read by row
    csv_tables  caption tables in CSV, read in batches
    fetching    a release, downloaded whole or in part
    sharding    captions and images, turned into tar shards
    scenes      the built-in sample release, drawn
"""
