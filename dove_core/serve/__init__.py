"""Hits over HTTP: a STAC API with free text, and the protocol of clip-retrieval.

The modules, each importing only those above it:

    summary       where and when the images of an index were taken
    served        indexes that are served, opened again when they are made again
    items         images as STAC items, indexes as STAC collections
    geometry      rows whose footprints intersect a geometry
    cql2          CQL2 filters as masks of rows
    masks         masks of rows by ids, geometries and CQL2
    models        the parameters of a search, derived from settings
    finding       the images that fit a search, from one index or several
    stac          the STAC API: one client class over the searchers
    uploads       images that clients send or name, within limits
    image_search  search by an uploaded image
    assets        images and thumbnails, by the key of an image
    attending     where words lie on an image
    marking       marks of analysts
    saving        hits as GeoJSON, GeoParquet and CSV
    browser       the page for browsers and its files
    knn           the protocol of clip-retrieval
    problems      errors as RFC 7807 JSON
    guards        token, size and speed of requests, security headers
    metrics       counts and times of requests, the access log
    manual        the page that describes the API
    app           all routes behind all guards
    protocol      HTTP connections with a time limit for headers
    server        sockets, processes and logs
"""
