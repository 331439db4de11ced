"""How an exchange is described: a table of feeds and pure parsers, found by discovery."""
