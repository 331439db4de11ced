"""A directory of Parquet files and its certificates: `source=bin-ohlcv/symbol=BTC/month=2026-10.parquet`.

`_certificates.json` has an entry for each month of each series that was exported, also for one without rows. While an
export runs it notes what is done in `_certificates.part`, so that one that was killed goes on where it was.
"""

import fcntl
import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from fademoe.bulk.arrow import load_arrow, open_writer
from fademoe.errors import ConfigError, FadeMoeError

CERTIFICATES, JOURNAL = "_certificates.json", "_certificates.part"
FORMAT = 1
PART = ".part"  # of a file that is being written
ROW_GROUP = 65_536  # rows

Entry = dict[str, Any]


class ExportError(FadeMoeError):
    """A directory, or what is to be written into it, cannot be used."""


@dataclass(kw_only=True)
class Certificates:
    """What a directory holds: how it was made, and an entry for each file by its path."""

    options: dict[str, Any]
    files: dict[str, Entry] = field(default_factory=dict)


def name_file(source: str, symbol: str, month: str) -> str:
    """Return the path of a month of a series below the directory."""
    return f"source={source}/symbol={symbol}/month={month}.parquet"


def read_certificates(folder: Path) -> Certificates | None:
    """Return the certificates of a directory, with what an export that was killed had done; None where there are none.

    Raises ExportError for a file of another kind.
    """
    path, journal = folder / CERTIFICATES, folder / JOURNAL
    found: Certificates | None = None
    try:
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ExportError(f"{path} has the format {content['format']}: this version reads {FORMAT}")
            found = Certificates(options=content["options"], files=content["files"])
        if journal.exists():
            for line in journal.read_text(encoding="utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):
                    break  # written when the export was killed
                done = json.loads(line)
                if found is None:
                    found = Certificates(options=done["options"])
                if "path" in done:
                    found.files[done["path"]] = done["entry"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} or {journal.name} is no list of certificates: {error!r}") from error
    return found


def write_certificates(folder: Path, certificates: Certificates) -> None:
    """Write the certificates in the order of their paths, and forget the notes of the export."""
    content = {"format": FORMAT, "options": certificates.options, "files": dict(sorted(certificates.files.items()))}
    path = folder / CERTIFICATES
    part = path.with_name(CERTIFICATES + ".new")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _flush(part)
    part.replace(path)
    (folder / JOURNAL).unlink(missing_ok=True)


def note_done(folder: Path, options: dict[str, Any], path: str | None = None, entry: Entry | None = None) -> None:
    """Note that a file is written, in an export that may be killed."""
    done: dict[str, Any] = {"options": options}
    if path is not None:
        done |= {"path": path, "entry": entry}
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(done, ensure_ascii=False) + "\n")


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other exports away from a directory, which is made; remove what one that was killed had not finished."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"--out is {str(folder)!r}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ExportError(f"another export writes into {folder}") from error
        for leftover in folder.glob(f"source=*/symbol=*/*{PART}"):
            leftover.unlink()
        yield
    finally:
        os.close(handle)


def write_file(path: Path, table: Any) -> Entry:
    """Write a table as Parquet, whole or not at all; return its bytes and their SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    with part.open("wb") as out, open_writer(out, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
    _flush(part)
    entry = {"bytes": part.stat().st_size, "file_sha256": hash_file(part)}
    part.replace(path)
    return entry


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check(folder: Path) -> list[str]:
    """Compare a directory with its certificates; return what is wrong, nothing when all of it is as it was written.

    Every file is there, none is beside them, its bytes are those that were written, it has as many rows as its
    certificate says, and the hash of its values, where they are exact, is that of the certificate.
    """
    certificates = read_certificates(folder)
    if certificates is None:
        return [f"{folder}: there is no {CERTIFICATES}"]
    faults = [f"{JOURNAL}: the export was not finished"] if (folder / JOURNAL).exists() else []
    stored = {str(path.relative_to(folder)) for path in folder.glob("source=*/symbol=*/*")}
    listed = {path for path, entry in certificates.files.items() if entry["rows"]}
    faults += [f"{path}: not in {CERTIFICATES}" for path in sorted(stored - listed)]
    for path in sorted(listed):
        faults += _check_file(folder, path, certificates)
    return faults


def _check_file(folder: Path, name: str, certificates: Certificates) -> list[str]:
    entry, path = certificates.files[name], folder / name
    if not path.is_file():
        return [f"{name}: missing"]
    if path.stat().st_size != entry["bytes"] or hash_file(path) != entry["file_sha256"]:
        return [f"{name}: its bytes are not those that were written"]
    table = importlib.import_module("pyarrow.parquet").ParquetFile(path).read()
    if table.num_rows != entry["rows"]:
        return [f"{name}: {table.num_rows} rows instead of {entry['rows']}"]
    is_exact = certificates.options["values"] == "decimal" and not entry["rounded"]
    if is_exact and hash_table(table) != entry["sha256"]:
        return [f"{name}: its values are not those of the certificate"]
    return []


def hash_table(table: Any) -> str:
    """Return the hash that a certificate has of rows: one line each, ts and values, without trailing zeros."""
    columns = [_to_texts(table[name].combine_chunks()) for name in table.column_names if name != "time"]
    compute = importlib.import_module("pyarrow.compute")
    lines = compute.binary_join_element_wise(*columns, "\t").to_pylist()
    digest = hashlib.sha256()
    for at in range(0, len(lines), 10_000):
        digest.update("".join(f"{line}\n" for line in lines[at : at + 10_000]).encode())
    return digest.hexdigest()


def _to_texts(column: Any) -> Any:
    """Return the values of a column as PostgreSQL writes them, \\N for none."""
    arrow, compute = load_arrow(), importlib.import_module("pyarrow.compute")
    if arrow.types.is_decimal(column.type):
        texts = [None if value is None else write_decimal(value) for value in column.to_pylist()]
        column = arrow.array(texts, arrow.string())
    elif arrow.types.is_boolean(column.type):
        column = compute.if_else(column, "t", "f")
    return compute.fill_null(column.cast(arrow.string()), "\\N")


def write_decimal(value: Decimal) -> str:
    """Write a decimal in plain notation without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _flush(path: Path) -> None:
    with path.open("rb") as content:
        os.fsync(content.fileno())
