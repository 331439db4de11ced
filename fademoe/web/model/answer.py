"""The base of the API's answers: one declaration of JSON body, OpenAPI schema and the data of a page."""

import msgspec


class Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object of an answer: its fields are the members of the JSON object, all of them always present."""
