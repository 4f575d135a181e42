"""The command line, one file per command. Nothing imports torch before a command runs."""
