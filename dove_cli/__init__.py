"""The command line of dove: it parses the options, calls the library once and shows the result."""
