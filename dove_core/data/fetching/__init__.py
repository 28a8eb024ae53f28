"""A release on a server -> its files in a folder, each complete and verified.

Modules, each importing only those above it:

    catalog     facts of the releases: files, servers, MD5s, licences
    selection   which files the settings ask for
    tables      which rows and members the settings ask for, shorter tables
    transfers   requests at once, retries, progress, stop
    clients     clients of web servers: proxies, certificates; addresses without passwords
    servers     files on web servers, in folders and buckets; what their answers mean
    hub         files in repositories of the Hugging Face Hub
    origins     from an address to the files at it
    lookup      from the name that a user gives to a release
    download    one whole file, resumed where it was interrupted
    members     members of a remote zip as plain files, fetched by ranges
    layout      where files are in the release's folder, which are here, which the user has elsewhere
    subset      the images that tables name, from all archives
    plan        what a fetch will do
    fetch       the whole fetch
"""
