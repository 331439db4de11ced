"""What pages and API show, worked out without Flask."""
