"""What changes something: switch, fill, retry."""
