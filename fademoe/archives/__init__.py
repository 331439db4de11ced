"""Files of archives: reading them, proving them, reading listings of them. Nothing here talks to a host."""
