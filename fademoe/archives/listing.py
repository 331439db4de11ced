"""Reads the listing of an S3 bucket, page by page."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from fademoe.clock import parse_time
from fademoe.errors import BadPayload

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Listed(NamedTuple):
    """A file of a listing; `etag` without quotes."""

    path: str
    etag: str
    bytes: int
    modified_ms: int


class Page(NamedTuple):
    """One page of a listing; `marker` asks for the next one, None after the last."""

    files: Sequence[Listed]
    folders: Sequence[str]
    marker: str | None


def read_page(content: bytes) -> Page:
    """Read a page; raise BadPayload for what is none.

    The next marker comes only where a delimiter was asked for; otherwise it is the last key.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadPayload(f"the listing is no XML: {error}", body=content[:200].decode("utf-8", "replace")) from error
    if root.tag != f"{NAMESPACE}ListBucketResult":
        raise BadPayload(f"a listing was expected, not {root.tag}")
    files = [_read_file(item) for item in root.iter(f"{NAMESPACE}Contents")]
    folders = [_text(item, "Prefix") for item in root.iter(f"{NAMESPACE}CommonPrefixes")]
    marker = None
    if _text(root, "IsTruncated") == "true":
        keys = [*(file.path for file in files), *folders]
        marker = root.findtext(f"{NAMESPACE}NextMarker") or (max(keys) if keys else None)
        if marker is None:
            raise BadPayload("a page of the listing says that more follows and is empty")
    return Page(files=files, folders=folders, marker=marker)


def skip_checksums(files: Sequence[Listed], suffix: str = ".CHECKSUM") -> Iterator[Listed]:
    """Yield the files without their siblings."""
    return (file for file in files if not file.path.endswith(suffix))


def _read_file(item: ElementTree.Element) -> Listed:
    try:
        size, modified_ms = int(_text(item, "Size")), parse_time(_text(item, "LastModified"))
    except ValueError as error:
        raise BadPayload(f"a file of the listing is unreadable: {error}") from error
    return Listed(_text(item, "Key"), _text(item, "ETag").strip('"'), size, modified_ms)


def _text(item: ElementTree.Element, name: str) -> str:
    text = item.findtext(f"{NAMESPACE}{name}")
    if text is None:
        raise BadPayload(f"a listing without {name}")
    return text
