"""Tables of text for the terminal."""

from collections.abc import Sequence

GAP = "  "


def format_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows under headings: columns as wide as their longest cell, numbers to the right.

    A column counts as numbers when all of its cells are int or float; an int gets thousands separators. None is
    written as "-". Without headings (all empty) there is no heading line.
    """
    cells = [[_format_cell(cell) for cell in row] for row in rows]
    is_number = [
        bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(headings))
    ]
    lines = [list(headings), *cells] if any(headings) else cells
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(len(headings))]
    return "\n".join(
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in lines
    )


def _format_cell(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.2f}" if isinstance(cell, float) else str(cell)
