"""The command line: it parses the options, calls the library once and shows the result.

Each module imports only those above it:

    streams         standard output and standard error: closed pipes, full disks
    about           the version, and what is said of an unexpected error
    render          output: progress bars, notes, errors, JSON
    options         command-line options from settings
    defaults        default folders
    tasks           options that share the work between machines
    tables          tables of `dove eval`
    answers         hits of `dove query`, on the screen and in files
    conversation    the dialogue of `dove query`
    marks           `dove marks`, and the marks that a query ranks by
    fetch shard train evaluate embed query export index serve    one command each
    main            the `dove` command with all its subcommands
"""
