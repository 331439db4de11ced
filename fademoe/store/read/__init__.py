"""The queries behind pages, API and commands, as a role that can only read."""
