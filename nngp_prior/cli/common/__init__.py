"""Options, parsing, output and remote calls that commands share."""
