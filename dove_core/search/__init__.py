"""A question to its hits.

The modules, each importing only those above it:

    dedup      hits that show the same place or nearly the same image
    attention  where images have what a query describes, for models without attention over regions
    question   what a user looks for: words, an image, keys of similar images
    query      `Searcher`: the rows of an index that fit a question, as `Hit`s
"""
