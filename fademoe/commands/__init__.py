"""The commands: arguments in, one call, an exit code out."""
