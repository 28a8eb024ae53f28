"""A release on a server -> its files in a folder, each complete and verified.

Modules, each importing only those above it:

    catalog     facts of the releases: files, servers, MD5s, licences
    tables      the caption tables: images of their rows, shorter tables
    selection   which files the settings ask for
    choice      which rows and members the settings ask for
    transfers   requests at once, retries, progress, stop
    answers     what a server's answer means
    servers     files on web servers, in folders and buckets
    download    one whole file, resumed where it was interrupted
    ranges      ranges of a remote file; the directory of a remote zip
    members     members of a remote zip as plain files
    layout      where files are in the release's folder, and which are here
    adopt       files that the user has already
    subset      the images that tables name, from all archives
    plan        what a fetch will do
    fetch       the whole fetch
"""
