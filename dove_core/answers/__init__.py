"""Hits to what people look at and other programs read.

The modules, each importing only those above it:

    thumbnails   a hit's image, decoded; small images for HTML
    geo          footprints in GeoJSON and GeoParquet
    copies       copies of the images, and a table of them
    sheet        contact sheet, PNG
    explain      where the words of a query attend on the images, PNG
    map          the part of the globe that a page shows, and markers on it
    page         HTML page with images and a map
    hits         `Hits`: the hits of a question, with all of these as methods
    image_index  `open_index` and `ImageIndex`: search without settings objects
"""
