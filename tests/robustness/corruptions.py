"""Random damage to the bytes of a file and to the cells of a table; the same seed gives the same damage."""

import csv
import io
from collections.abc import Sequence

import numpy as np

# What spreadsheets, editors and people leave in tables.
CELLS = (
    "", " ", "nan", "NaN", "inf", "-1", "1e400", "0.5.1", "1,5", "old", "Train", "Test", "train", "[", "]", "[]",
    "../x", "/etc/passwd", "a/b", "..", ".", "\0", "[00000]", "é", "笑", '"', '""', "'", ";", "\t", "\n", "\r\n",
    "a\nb", "9" * 25, "1e20", "3.0", "2.7",
    "=1+1", "x" * 300, "9" * 400, "None", "null", "TRUE", "\ufeff", "\u2028", "0x10", "\uff11", "-0", "1e-320",
)  # fmt: skip
BYTES = (
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b'"',
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b",",
    b";",
    b"\t",
    b"\xff",
    b"\xc3",
    b"\x1a",
)


def corrupt_bytes(data: bytes, others: Sequence[bytes], random: np.random.Generator) -> bytes:
    """Return the bytes of a file after one to four accidents."""
    for _ in range(random.integers(1, 5)):
        size = len(data)
        if not size:
            return data
        start = int(random.integers(size))
        # Most damage is small; headers, where damage tells most, are hit as often as all the rest.
        start = start if random.random() < 0.5 else start % min(size, 600)
        stop = min(size, start + int(2 ** random.uniform(0, np.log2(size + 1))))
        other = others[random.integers(len(others))]
        kind = random.integers(9)
        if kind == 0:
            damaged = bytearray(data)
            for place in random.integers(start, stop, max(1, (stop - start) // 50)):
                damaged[place] ^= 1 << random.integers(8)
            data = bytes(damaged)
        elif kind == 1:
            data = data[:start] + random.bytes(stop - start) + data[stop:]
        elif kind == 2:
            data = data[:start] + bytes(stop - start) + data[stop:]
        elif kind == 3:
            data = data[:start] + b"\xff" * min(8, stop - start) + data[min(stop, start + 8) :]
        elif kind == 4:
            data = data[:start] + data[stop:]
        elif kind == 5:
            data = data[:stop]
        elif kind == 6:
            data = data[:stop] + data[start:]
        elif kind == 7:
            data = data[:start] + other[random.integers(len(other)) :] + data[stop:]
        else:
            data = data[:start] + random.bytes(int(random.integers(1, 200))) + data[start:]
    return data


def corrupt_table(text: str, random: np.random.Generator) -> bytes:
    """Return a CSV table after one to four accidents to its cells, rows, columns or bytes."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(random.integers(1, 4)):
        row, column = int(random.integers(len(rows))), int(random.integers(len(rows[0])))
        kind = random.integers(8)
        if kind <= 2 and column < len(rows[row]):
            rows[row][column] = CELLS[random.integers(len(CELLS))]
        elif kind == 3:
            rows.insert(row, list(rows[random.integers(len(rows))]))
        elif kind == 4 and len(rows) > 1:
            del rows[row]
        elif kind == 5:
            del rows[row][column:]
        elif kind == 6:
            for cells in rows:
                del cells[column : column + 1]
            if not rows[0]:
                return b""
        else:
            rows[row].insert(column, CELLS[random.integers(len(CELLS))])
    out = io.StringIO()
    line_end = ("\n", "\r\n", "\r")[random.choice(3, p=[0.8, 0.15, 0.05])]
    delimiter = ",;\t"[random.choice(3, p=[0.9, 0.05, 0.05])]
    csv.writer(out, lineterminator=line_end, delimiter=delimiter).writerows(rows)
    data = out.getvalue().encode()
    for _ in range(random.integers(0, 3)):
        place = int(random.integers(len(data) + 1))
        what = BYTES[random.integers(len(BYTES))]
        kind = random.integers(4)
        if kind == 0:
            data = data[:place] + what + data[place:]
        elif kind == 1:
            data = data[:place] + what + data[place + len(what) :]
        elif kind == 2:
            data = data[:place] + data[place + int(random.integers(1, 80)) :]
        else:
            data = what + data if random.random() < 0.3 else data[: max(place, len(data) // 2)]
    return data
