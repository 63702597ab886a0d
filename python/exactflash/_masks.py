"""Boolean masks read as what they mean: padding, causal, a window.

A mask as a tensor of its own takes another path through the arithmetic (docs/numerics.md, "Adjusted
scores") than the same mask told in words. So that a sequence has the same bits alone, left-padded in a
batch and in a cache that is longer, masks of the usual kinds are told in words.
"""

from typing import Any, NamedTuple


class Pattern(NamedTuple):
    """Arguments of exactflash.attention; the tuples have one number for each sequence."""

    causal: bool
    window: int
    q_first: tuple[int, ...]
    kv_begin: tuple[int, ...]
    kv_len: tuple[int, ...]


class _Band(NamedTuple):
    """Of one sequence: keys begin … end − 1; row r sees them up to index first + r, the last `window`."""

    causal: bool
    window: int
    first: int
    begin: int
    end: int


def _is_band(visible: Any, first: int, window: int, begin: int) -> bool:
    """Whether row r of visible, whose column 0 is key `begin`, sees first + r − window < key ≤ first + r."""
    import numpy

    rows, columns = visible.shape
    # Row r is a piece of one line of zeros and ones, which begins one further left than that of r − 1.
    line = numpy.zeros(rows - 1 + columns, bool)
    last = first - begin + rows - 1  # in the line: where row 0 sees its last key
    line[max(0, last - window + 1 if window else 0) : max(0, last + 1)] = True
    size = line.itemsize
    bands = numpy.lib.stride_tricks.as_strided(
        line[rows - 1 :], shape=(rows, columns), strides=(-size, size), writeable=False
    )
    return bool((visible == bands).all())


def _read_one(mask: Any, hint: int) -> _Band | None:
    """mask: bool [rows, keys]."""
    seen = mask.any(axis=0)
    if not seen.any():
        return _Band(True, 0, 0, 0, 0)
    begin, end = int(seen.argmax()), len(seen) - int(seen[::-1].argmax())
    rows = mask.any(axis=1)
    top = int(rows.argmax())  # the first row that sees a key: those above it are padding
    last_of_top = len(seen) - 1 - int(mask[top, ::-1].argmax())
    first = last_of_top - top
    bottom = first + len(rows) - 1
    lowest = int(mask[-1].argmax())  # the first key that the last row sees
    window = bottom - lowest + 1 if rows[-1] and lowest > begin else 0
    visible = mask[:, begin:end]
    if _is_band(visible, first, window, begin):
        # A row that sees a whole window tells nothing about where the sequence begins.
        full = top == 0 and first - begin + 1 == hint > 0
        if full and (window == hint or len(rows) == 1):
            window, begin = hint, 0
        return _Band(True, window, first, begin, end)
    if visible.all():
        return _Band(False, 0, 0, begin, end)
    return None


def _read_rows(mask: Any, hint: int) -> Pattern | None:
    """Of masks of one row, [batch, 1, keys], as decoding has them: all at once."""
    rows = mask[:, 0]
    counts = rows.sum(axis=1)
    begins = rows.argmax(axis=1)
    ends = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    empty = counts == 0
    begins[empty], ends[empty] = 0, 0
    if not (ends - begins == counts).all():
        return None
    whole = counts == hint if hint else empty
    window = hint if hint and whole.any() and (counts <= hint).all() else 0
    if window:
        begins[whole] = 0
    first = (ends - 1 - begins).tolist()
    return Pattern(True, window, tuple(first), tuple(begins.tolist()), tuple(ends.tolist()))


def read(mask: Any, hint: int = 0) -> Pattern | None:
    """The pattern of a mask, a NumPy array, bool [batch, rows, keys]; None: it is of no such kind. hint:
    the model's window, 0: none."""
    if mask.shape[1] == 1 and mask.shape[2] > 0:
        return _read_rows(mask, hint)
    same = mask.strides[0] == 0
    bands = [_read_one(one, hint) for one in (mask[:1] if same else mask)]
    found = [band for band in bands if band is not None]
    if len(found) < len(bands) or not found:
        return None
    kinds = {(band.causal, band.window) for band in found if band.end > band.begin}
    if len(kinds) > 1:  # sequences that are shorter than the window may do with it
        windows = {window for _, window in kinds if window}
        if any(not causal for causal, _ in kinds) or len(windows) > 1:
            return None
        window = windows.pop()
        rows = mask.shape[1]
        if any(not b.window and b.first + rows - b.begin > window for b in found if b.end > b.begin):
            return None
        kinds = {(True, window)}
    causal, window = kinds.pop() if kinds else (True, 0)
    if same:
        found *= mask.shape[0]
    return Pattern(
        causal,
        window,
        tuple(band.first - band.begin for band in found),
        tuple(band.begin for band in found),
        tuple(band.end for band in found),
    )
