"""YAML as plain data with places: traps, twins, bombs, and words for what cannot be read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.site.yaml_places import MAX_DEPTH, Place, YamlError, read


def said(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(YamlError) as caught:
        read(text)
    return [(place.line, place.column, message) for place, message in caught.value.found]


# Not all JSON is YAML: it knows no pairs of surrogates, and no key of more than 1024 characters.
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_json(data: object) -> None:
    assert read(json.dumps(data)).data == data


@pytest.mark.parametrize(
    ("scalar", "wanted"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30:00", "12:30:00"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("1e-3", 0.001),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("True", True),
        ("~", None),
        ("", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2_where_no_is_text(scalar: str, wanted: object) -> None:
    assert read(f"a: {scalar}").data == {"a": wanted}


def test_a_key_is_text_whatever_it_looks_like() -> None:
    assert read("1: a\nno: b\nnull: c").data == {"1": "a", "no": "b", "null": "c"}


def test_every_value_and_key_knows_its_place() -> None:
    node, found = read("a:\n  - x\n  - b: {c: 1}\n").find(("a", 1, "b", "c"))

    assert found == ("a", 1, "b", "c")
    assert node.place == Place(3, 12)
    holder, _ = read("a:\n  - x\n  - b: {c: 1}\n").find(("a", 1, "b"))
    assert holder.keys["c"] == Place(3, 9)


def test_a_path_that_leads_nowhere_ends_at_the_deepest_node() -> None:
    node, found = read("a: {b: 1}").find(("a", "x", "y"))

    assert (node.place, found) == (Place(1, 4), ("a",))


def test_merge_keys_take_in_what_the_mapping_does_not_say_itself() -> None:
    text = "one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nall: {<<: [*one, *two], c: 3}"

    assert read(text).data["all"] == {"a": 1, "b": 1, "c": 3}


def test_all_keys_given_twice_are_told_at_once() -> None:
    assert said("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        (2, 11, "'c' is given twice; the first is in line 2"),
        (3, 1, "'a' is given twice; the first is in line 1"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("a:\n\tb: 1", 2, 1, "a tab; want spaces"),
        ("a: {b: [1, 2}\nc: 3", 1, 8, "closing bracket"),
        ("a: 'open\nb: 1\n", 1, 4, "quoted scalar"),
        ("a: @x", 1, 4, "wants quotes"),
        ("a: b: c", 1, 5, "quotes around a colon"),
        ("--- 1\n--- 2", 2, 1, "second document"),
        ("? [a]\n: b", 1, 3, "a key must be plain text"),
        ("a: !!python/object:os.system x", 1, 4, "is not used here"),
        ("a: \x01", 1, 4, "cannot stand in YAML"),
        ("a: *b", 1, 4, "no &b is complete"),
        ("a: &a [*a]", 1, 8, "no &a is complete"),
        ("a: 1\nb: {<<: 1}", 2, 5, "want an alias of a group"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(
    text: str, line: int, column: int, word: str
) -> None:
    ((found_line, found_column, message),) = said(text)

    assert (found_line, found_column) == (line, column)
    assert word in message


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 20_000, "{a: " * 20_000])
def test_deep_nesting_is_refused_before_it_can_hurt(text: str) -> None:
    assert said(text)[0][2] == f"nested deeper than {MAX_DEPTH} levels"


def test_depth_counts_through_aliases() -> None:
    links = "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))

    assert said(f"a0: &a0 [1]\n{links}")[0][2] == f"nested deeper than {MAX_DEPTH} levels"


def test_anchors_that_multiply_are_refused_before_they_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]

    assert "once its anchors are written out" in said("\n".join(lines))[0][2]


@given(st.text(alphabet="ab:{}[]-'\"&*!|>%@#, \n\t0", max_size=40))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    try:
        read(text)
    except YamlError as error:
        for place, message in error.found:
            assert 1 <= place.line <= text.count("\n") + 1
            assert place.column >= 1
            assert message
