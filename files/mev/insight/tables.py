"""Tables that cut nothing: wide, else narrow, else each row as lines of its own, whichever shows every word whole in the terminal's width."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Of a table with lines each column takes so much beside its text, and its last line.
LINED, LAST_LINE = 3, 1
# Without lines one space stands behind each column.
PLAIN = 1


def show(console: Console, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headers; cells are text, not the terminal's markup or commands, and break at spaces alone."""
    rows = [[_plain(cell) for cell in row] for row in rows]
    columns = [*zip(headers, *rows, strict=True)]
    words = [max(max(map(len, cell.split()), default=0) for cell in column) for column in columns]
    wanted = [max(map(len, column)) for column in columns]
    if (room := console.width - LINED * len(headers) - LAST_LINE) >= sum(words):
        table = Table()
    elif (room := console.width - PLAIN * len(headers)) >= sum(words):
        table = Table(box=None, padding=(0, PLAIN, 0, 0))
    else:
        _as_lines(console, headers, rows)
        return
    for header, width in zip(headers, _widths(words, wanted, room), strict=True):
        table.add_column(header, width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(words: Sequence[int], wanted: Sequence[int], room: int) -> list[int]:
    """Give each column the room for its longest word, and what is left to those that want more, the least wish first."""
    widths = [*words]
    left = room - sum(words)
    by_wish = sorted(range(len(words)), key=lambda at: wanted[at] - words[at])
    for done, at in enumerate(by_wish):
        more = min(wanted[at] - words[at], left // (len(by_wish) - done))
        widths[at] += more
        left -= more
    return widths


def _as_lines(console: Console, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print each row as `header: cell` lines, those that hold something, and an empty one after it; a longer line goes on where the terminal breaks it."""
    for row in rows:
        for header, cell in zip(headers, row, strict=True):
            if cell:
                console.print(Text(f"{header}: {cell}" if header else cell), soft_wrap=True)
        console.print()


def _plain(cell: str) -> str:
    return "".join(each if each.isprintable() else " " for each in cell)
