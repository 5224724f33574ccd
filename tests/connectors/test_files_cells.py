"""What a cell, a header and a status mean."""

import pytest
from pydantic import ValidationError
from support.recordings import SECOND, T0, history, rejected, samples, settings, tags, write

from connectors.batch import BAD, BAD_NO_DATA, BAD_OUT_OF_RANGE, GOOD, UNCERTAIN, Notice, Samples
from connectors.contract import MismatchError, RefusedError
from connectors.files.source import History

LONG = {"layout": "long", "tag_column": "tag", "value_column": "value"}


def test_a_wide_row_gives_a_sample_for_each_asked_column_and_none_for_an_empty_cell(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,flow,other,temp",
        "2024-01-01T00:00:00Z,1.5,7,20",
        "2024-01-01T00:00:01Z,,8,21",
    )
    read = history(tags("temp", "flow"), settings(path))
    assert samples(read) == [(1, T0, 20, GOOD), (2, T0, 1.5, GOOD), (1, T0 + SECOND, 21, GOOD)]
    assert rejected(read) == {}


def test_a_cell_that_is_no_number_is_counted_and_its_neighbours_are_taken(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,flow,temp",
        "2024-01-01T00:00:00Z,ERR,20",
        "2024-01-01T00:00:01Z,1_0,0x10",
        "2024-01-01T00:00:02Z, 3 ,-.5e1",
    )
    read = history(tags("flow", "temp"), settings(path))
    assert samples(read) == [
        (2, T0, 20, GOOD),
        (1, T0 + 2 * SECOND, 3, GOOD),
        (2, T0 + 2 * SECOND, -5, GOOD),
    ]
    assert rejected(read) == {"value not a number": 3}


def test_a_column_with_a_bad_cell_here_and_there_keeps_every_good_one(tmp_path):
    cells = [str(n) if n % 7 else f"bad{n}" for n in range(100)]
    lines = [f"{T0 // SECOND + n},{cell}" for n, cell in enumerate(cells)]
    path = write(tmp_path / "a.csv", "time,flow", *lines)
    read = history(tags("flow"), settings(path, time_format="epoch_s"))
    assert [value for _, _, value, _ in samples(read)] == [n for n in range(100) if n % 7]
    assert rejected(read) == {"value not a number": 15}


def test_nan_and_infinity_are_samples_of_bad_quality(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,flow,temp",
        "2024-01-01T00:00:00Z,NaN,-inf",
        "2024-01-01T00:00:01Z,1e400,1e-400",
    )
    assert samples(history(tags("flow", "temp"), settings(path))) == [
        (1, T0, "nan", BAD_NO_DATA),
        (2, T0, float("-inf"), BAD_OUT_OF_RANGE),
        (1, T0 + SECOND, float("inf"), BAD_OUT_OF_RANGE),
        (2, T0 + SECOND, 0, GOOD),
    ]


def test_a_decimal_comma_is_read_and_a_point_beside_it_is_not_guessed(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time;flow;temp",
        "1704067200,001;1,5;1.234",
        "1704067200,002;-0,25;1.234,5",
        "1704067200,003;;7",
    )
    read = history(
        tags("flow", "temp"), settings(path, delimiter=";", decimal=",", time_format="epoch_s")
    )
    assert samples(read) == [
        (1, T0 + 10**6, 1.5, GOOD),
        (1, T0 + 2 * 10**6, -0.25, GOOD),
        (2, T0 + 3 * 10**6, 7, GOOD),
    ]
    assert rejected(read) == {"value not a number": 2}


def test_a_line_with_another_number_of_cells_is_counted_and_an_empty_line_is_nothing(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,flow",
        "2024-01-01T00:00:00Z,1",
        "",
        "2024-01-01T00:00:01Z,2,3",
        "2024-01-01T00:00:02Z",
        ",",
        "2024-01-01T00:00:03Z,4",
        "   ",
    )
    read = history(tags("flow"), settings(path))
    assert [value for _, _, value, _ in samples(read)] == [1, 4]
    assert rejected(read) == {"line with too many or too few cells": 2}


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_a_line_break_within_quotes_is_refused(tmp_path, batch_rows):
    path = write(tmp_path / "a.csv", "time,flow", '2024-01-01T00:00:00Z,"1', '2"', "x,1")
    with pytest.raises(RefusedError, match=r"a\.csv: a quoted cell .* holds a line break"):
        history(tags("flow"), settings(path, batch_rows=batch_rows))


def test_long_rows_carry_their_status_and_others_are_left_alone(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,tag,value,q",
        "2024-01-01T00:00:00Z,flow,1,Good",
        "2024-01-01T00:00:01Z,other,oops,what",
        "2024-01-01T00:00:02Z,flow,2,uncertain",
        "2024-01-01T00:00:03Z,flow,,BAD",
        "2024-01-01T00:00:04Z,flow,,",
        "2024-01-01T00:00:05Z,flow,5,BadSensorFailure",
        "2024-01-01T00:00:06Z,flow,6,what",
    )
    read = history(tags("flow"), settings(path, status_column="q", **LONG))
    assert [(value, status) for _, _, value, status in samples(read)] == [
        (1, GOOD),
        (2, UNCERTAIN),
        ("nan", BAD),
        ("nan", BAD_NO_DATA),
        (5, BAD),
    ]
    assert rejected(read) == {"status not readable": 1}


@pytest.mark.parametrize(
    ("form", "cell", "status"),
    [
        ("opc_ua", "0", GOOD),
        ("opc_ua", "0x80350000", 0x80350000),
        ("opc_ua", "2150891520", 2150891520),
        ("opc_ua", "uncertain", UNCERTAIN),
        ("opc_da", "192", GOOD),
        ("opc_da", "216", GOOD),  # good, local override
        ("opc_da", "64", UNCERTAIN),
        ("opc_da", "0", BAD),
        ("opc_da", "500", BAD),
        ("opc_ua", "4294967296", None),
        ("opc_ua", "-1", None),
        ("opc_da", "-1", None),
        ("word", "192", None),  # 0 would be good in one world and bad in the other
    ],
)
def test_a_status_means_what_its_format_says(tmp_path, form, cell, status):
    path = write(
        tmp_path / "a.csv",
        "time,tag,value,q",
        f"2024-01-01T00:00:00Z,flow,1,{cell}",
        "2024-01-01T00:00:01Z,flow,2,",
    )
    read = history(tags("flow"), settings(path, status_column="q", status_format=form, **LONG))
    if status is None:
        assert rejected(read) == {"status not readable": 1}
    else:
        assert samples(read) == [(1, T0, 1, status), (1, T0 + SECOND, 2, GOOD)]


GERMAN = ("time;flow;on", "2024-01-01T00:00:00Z;3,25;1", "2024-01-01T00:00:01Z;4;1")


def test_numbers_with_the_other_decimal_mark_are_a_mistake_of_the_settings(tmp_path):
    path = write(tmp_path / "a.csv", *GERMAN, "2024-01-01T00:00:02Z;3,5;1")
    told = (
        r"a\.csv: line 2, column 'flow': '3,25' is no number with `decimal: '\.'`; if ',' is its "
        r"decimal mark, set `decimal: ','` for this source"
    )
    with pytest.raises(MismatchError, match=told):
        history(tags("flow", "on"), settings(path, delimiter=";"))
    read = history(tags("flow", "on"), settings(path, delimiter=";", decimal=","))
    assert [value for tag, _, value, _ in samples(read) if tag == 1] == [3.25, 4, 3.5]
    english = write(tmp_path / "b.csv", "time;flow", "2024-01-01T00:00:00Z;3.25")
    with pytest.raises(MismatchError, match=r"'3\.25' is no number with `decimal: ','`"):
        history(tags("flow"), settings(english, delimiter=";", decimal=","))


def test_a_number_in_groups_beside_others_is_rejected_alone(tmp_path):
    path = write(tmp_path / "a.csv", *GERMAN[:1], "2024-01-01T00:00:00Z;1,234;1", GERMAN[2])
    read = history(tags("flow"), settings(path, delimiter=";"))
    assert rejected(read) == {"value not a number": 1}


@pytest.mark.parametrize(
    ("line", "given", "told"),
    [
        (
            "31.12.2023 10:00,1",
            {},
            r"a\.csv, line 2, column 'time': '31.* is no time by .*want `time_format: day_first`",
        ),
        ("1704067200000,1", {"time_format": "iso8601"}, "want `time_format: epoch_ms`"),
        ("2024-01-01T00:00Z,1", {"time_format": "epoch_s"}, "want `time_format: iso8601`"),
        ("2024-01-01T00:00:00Z,#NV", {}, r"a\.csv, line 2, column 'flow': '#NV' is no number"),
        ("2024-01-01T00:00:00Z", {}, r"a\.csv, line 2: not as many cells as the header"),
        (
            "2024-03-31T02:30,1",
            {"timezone": "Europe/Berlin"},
            r"'2024-03-31T02:30' was skipped in Europe/Berlin",
        ),
    ],
)
def test_where_nothing_can_be_taken_nothing_counts_as_read(tmp_path, line, given, told):
    path = write(tmp_path / "a.csv", "time,flow", *[line] * 5)
    with pytest.raises(MismatchError, match=told):
        history(tags("flow"), settings(path, batch_rows=2, **given))
    good = (
        f"{T0 // SECOND},1" if given.get("time_format") == "epoch_s" else "2024-01-01T00:00:00Z,1"
    )
    write(tmp_path / "b.csv", "time,flow", *["x,1"] * 5, good)
    read = history(tags("flow"), settings(tmp_path / "*.csv", batch_rows=2, **given))
    assert sum(rejected(read).values()) == 10
    assert len(samples(read)) == 1


def test_of_what_is_rejected_one_cell_is_quoted_within_the_interval(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "",
        "time,tag,value,q",
        "2024-01-01T00:00:00Z,flow,early,",
        "2024-01-01T00:00:01Z,flow,1,",
        "2024-01-01T00:00:02Z,flow,oops,",
        "2024-01-01T00:00:03Z,flow,1,fine",
        "2024-01-01T00:00:04Z,flow,again,",
    )
    read = settings(path, status_column="q", **LONG)
    told = {
        batch.reason: batch.example
        for batch in History("rig", read, tags("flow")).read(since=T0)
        if isinstance(batch, Notice)
    }
    assert told == {
        "value not a number": "a.csv, line 5, column 'value': 'oops' is no number; write nothing "
        "into the cell where there is no value",
        "status not readable": "a.csv, line 6, column 'q': 'fine' is no status by "
        "`status_format: word`",
    }


def test_an_asset_column_makes_addresses_of_asset_and_column(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "time,pump,flow [m3/h],temp",
        "2024-01-01T00:00:00Z,p1,1,20",
        "2024-01-01T00:00:00Z,p2,2,30",
        "2024-01-01T00:00:00Z,p3,3,40",
    )
    asked = tags("p2/flow", "p1/temp", "p1/flow")
    read = history(asked, settings(path, asset_column="pump"))
    assert sorted(samples(read)) == [(1, T0, 2, GOOD), (2, T0, 20, GOOD), (3, T0, 1, GOOD)]
    with pytest.raises(RefusedError, match="want <asset>/<column>"):
        history(tags("flow"), settings(path, asset_column="pump"))


def test_two_tags_may_share_one_address(tmp_path):
    path = write(tmp_path / "a.csv", "time,flow", "2024-01-01T00:00:00Z,1")
    read = history(tags("flow", "flow"), settings(path))
    assert samples(read) == [(1, T0, 1, GOOD), (2, T0, 1, GOOD)]


@pytest.mark.parametrize("header", ["flow [l/min]", "flow (l/min)", "flow[l/min]"])
def test_a_unit_in_the_header_is_checked_against_the_tag(tmp_path, header):
    path = write(tmp_path / "a.csv", f"time,{header}", "2024-01-01T00:00:00Z,1")
    for asked in (tags("flow"), tags(("flow", "l/min")), tags((header, "anything"))):
        assert samples(history(asked, settings(path))) == [(1, T0, 1, GOOD)]
    with pytest.raises(RefusedError, match=r"'flow' is in 'l/min'.*says 'm3/h'"):
        history(tags(("flow", "m3/h")), settings(path))


def test_a_unit_column_is_checked_row_by_row_for_the_tags_asked_for(tmp_path):
    rows = ["2024-01-01T00:00:00Z,flow,1,l/min", "2024-01-01T00:00:01Z,other,1,bar"]
    path = write(tmp_path / "a.csv", "time,tag,value,unit", *rows)
    long = settings(path, unit_column="unit", **LONG)
    assert len(samples(history(tags(("flow", "l/min")), long))) == 1
    write(path, "time,tag,value,unit", *rows, "2024-01-01T00:00:02Z,flow,2,m3/h")
    with pytest.raises(RefusedError, match=r"'flow' is in 'm3/h'.*says 'l/min'"):
        history(tags(("flow", "l/min")), long)


def test_missing_columns_are_all_named_with_what_was_meant(tmp_path):
    path = write(tmp_path / "a.csv", "Time,flow_rate,temp", "2024-01-01T00:00:00Z,1,2")
    with pytest.raises(RefusedError) as refused:
        history(tags("flowrate", "pressure"), settings(path))
    told = str(refused.value)
    assert "no column 'time' (did you mean 'Time'?)" in told
    assert "no column 'flowrate' (did you mean 'flow_rate'?)" in told
    assert "no column 'pressure'." in told
    assert "a.csv" in told
    assert "'flow_rate', 'temp'" in told


def test_a_file_with_another_delimiter_says_which(tmp_path):
    path = write(tmp_path / "a.csv", "time;flow", "2024-01-01T00:00:00Z;1")
    with pytest.raises(MismatchError, match=r"It looks delimited by ';': set `delimiter` to that"):
        history(tags("flow"), settings(path))


def test_a_column_that_comes_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "time,flow,flow", "2024-01-01T00:00:00Z,1,2")
    with pytest.raises(RefusedError, match="2 columns 'flow'"):
        history(tags("flow"), settings(path))


def test_batches_are_what_the_rest_of_the_program_wants(tmp_path):
    path = write(tmp_path / "a.csv", "time,flow", "2024-01-01T00:00:00Z,1")
    (batch,) = history(tags("flow"), settings(path))
    assert isinstance(batch, Samples)
    assert batch.source == "rig"
    assert batch.flags.tolist() == [0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"layout": "long"}, "needs tag_column and value_column"),
        ({"value_column": "v"}, "layout: wide has no value_column"),
        ({"asset_column": "a"} | LONG, "layout: long has no asset_column"),
        ({"stamp": "start"}, "needs interval_ms"),
        ({"decimal": ","}, "are both"),
        ({"timezone": "Europe/Berlim"}, "no time zone"),
        ({"timezone": "../etc/passwd"}, "no time zone"),
        ({"encoding": "utf-9"}, "no encoding"),
        ({"speed": 0}, "greater than 0"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given, told):
    with pytest.raises(ValidationError, match=told):
        settings("a.csv", **given)
