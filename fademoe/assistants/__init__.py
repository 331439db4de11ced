"""Answers for AI assistants over the Model Context Protocol (MCP): `fademoe mcp`.

`tools`, `resources` and `prompts` say what an assistant can ask; they call the same functions as the pages and the
JSON API. `role` makes the database role that all of it reads as, `statement` runs the SQL of an assistant, `answer` is
the one shape of every result, `serve` runs the server over stdio or HTTP. Contract: docs/assistants.md.
"""
