"""Options, parsing, output and remote calls shared by commands."""
