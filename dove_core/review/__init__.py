"""Marks of analysts: hits that they confirm or reject, and searches that learn from them.

Modules, bottom up; each imports only those above it:

    marks   one mark: what somebody said of an image as an answer to a query
    store   the SQLite file of marks beside an index
    tables  marks in CSV
    learn   a search direction learned from marks
"""
