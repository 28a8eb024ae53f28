"""The command line of dove: parses, calls the library once, renders."""
