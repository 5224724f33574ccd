"""Points to line protocol: what is written, and what has no form in it."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.influxdb.lines import lines
from connectors.points import Points


def block(*, measurement="m", tags=None, time=(1,), fields=None, texts=None):
    return Points(
        measurement=measurement,
        tags=tags or {},
        time=np.array(time, np.int64),
        fields={name: np.array(column, np.float64) for name, column in (fields or {}).items()},
        texts=texts or {},
    )


def written(*blocks):
    made, refused = lines(blocks)
    assert refused == {}
    return [made[index].data.decode() for index in range(len(blocks))]


def test_rows_become_lines_with_sorted_tags_and_whole_nanoseconds():
    one = block(
        tags={"site": "w", "asset": "p1"},
        time=(1_700_000_000_000_000_001, -5),
        fields={"surprise": (0.1, 1e300), "valid": (1, 0)},
    )
    (text,) = written(one)
    assert text.splitlines() == [
        "m,asset=p1,site=w surprise=0.1,valid=1 1700000000000000001",
        "m,asset=p1,site=w surprise=1e+300,valid=0 -5",
    ]


def test_what_has_a_meaning_is_escaped_where_it_has_it():
    one = block(
        measurement='a,b c="',
        tags={"k,=y ": 'v,=w "', "e": ""},
        fields={"f ,=": (1,)},
        texts={"t=": ('say "a\\b", ok=1\nthen',)},
    )
    assert written(one) == [
        'a\\,b\\ c=",k\\,\\=y\\ =v\\,\\=w\\ " f\\ \\,\\==1,t\\=="say \\"a\\\\b\\", ok=1\nthen" 1\n'
    ]


def test_an_empty_tag_is_left_out():
    assert written(block(tags={"a": "", "b": "x"}, fields={"f": (1,)})) == ["m,b=x f=1 1\n"]


def test_each_block_keeps_its_own_lines_whatever_it_shares_with_others():
    blocks = [
        block(tags={"n": str(n)}, time=range(n % 4), fields={"ab"[n % 2]: [n] * (n % 4)})
        for n in range(20)
    ]
    assert written(*blocks) == [
        "".join(f"m,n={n} {'ab'[n % 2]}={n} {t}\n" for t in range(n % 4)) for n in range(20)
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_a_number_reads_back_as_the_same_bits(numbers):
    (text,) = written(block(time=range(len(numbers)), fields={"f": numbers}))
    read = [float(line.split()[1].removeprefix("f=")) for line in text.splitlines()]
    assert [struct.pack("d", one) for one in read] == [struct.pack("d", one) for one in numbers]


def test_a_part_is_its_lines():
    made, _ = lines([block(time=range(5), fields={"f": range(5)})])
    part = made[0].part(1, 3)
    assert (part.data, len(part)) == (b"m f=1 1\nm f=2 2\n", 2)
    assert part.part(1, 9).data == b"m f=2 2\n"
    assert part.part(2, 2).data == b""


UNWRITABLE = {
    "no field": block(),
    "a measurement that is a comment": block(measurement="#m", fields={"f": (1,)}),
    "no measurement": block(measurement="", fields={"f": (1,)}),
    "a line break in a tag": block(tags={"t": "a\nb"}, fields={"f": (1,)}),
    "a backslash at the end": block(tags={"t": "a\\"}, fields={"f": (1,)}),
    "a backslash before a comma": block(tags={"t": "a\\,b"}, fields={"f": (1,)}),
    "a field called time": block(fields={"time": (1,)}),
    "a tag called time": block(tags={"time": "x"}, fields={"f": (1,)}),
    "a field without a name": block(fields={"": (1,)}),
    "two of one name": block(tags={"f": "x"}, fields={"f": (1,)}),
    "text that is not Unicode": block(texts={"t": ("\ud800",)}),
    "a tag that is not Unicode": block(tags={"t": "\ud800"}, fields={"f": (1,)}),
}


@pytest.mark.parametrize("one", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_has_no_form_is_refused_and_the_others_are_written(one):
    made, refused = lines([block(fields={"f": (1,)}), one, block(texts={"t": ("x",)})])
    assert list(refused) == [1]
    assert refused[1]
    assert [made[0].data, made[2].data] == [b"m f=1 1\n", b'm t="x" 1\n']
