"""The command line's groups of commands: each parses, calls one function and prints. cli.py puts them together."""
