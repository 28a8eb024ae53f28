"""An index in a Milvus collection: push, search, and comparison with the index on disk.

Modules, bottom up; each imports only those above it:

    address     addresses of collections
    schema      rows as entities, and the card that describes a collection
    expression  filters as Milvus expressions
    collection  the calls to the server
    push        copying of an index to a collection
    remote      search in a collection
    agreement   comparison of a collection's answers with those of the index
"""
