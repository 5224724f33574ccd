import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from support.keeping import same

from monitor.state.columns import pack, unpack
from monitor.state.errors import CorruptError

DTYPES = st.one_of(
    some.boolean_dtypes(),
    some.integer_dtypes(),
    some.unsigned_integer_dtypes(),
    some.floating_dtypes(),
    some.complex_number_dtypes(),
    some.datetime64_dtypes(),
    some.timedelta64_dtypes(),
    some.byte_string_dtypes(),
    some.unicode_string_dtypes(),
)
ARRAYS = some.arrays(DTYPES, some.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), ARRAYS, max_size=4), JSON, st.binary(max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_columns_and_json_read_back_bit_for_bit(columns, meta, beside):
    found, found_meta = unpack(pack(columns, meta, bound_to=beside), what="it", bound_to=beside)
    assert same(found, columns)
    assert found_meta == meta


@given(some.arrays(np.uint64, some.array_shapes(max_dims=2, max_side=200)))
@settings(max_examples=50, deadline=None)
def test_the_payload_bits_of_nan_are_kept(bits):
    number = bits | np.uint64(0x7FF0_0000_0000_0001)
    found, _ = unpack(pack({"x": number.view(np.float64)}), what="it")
    assert np.array_equal(found["x"].view(np.uint64), number)


def test_columns_cut_from_a_larger_array_read_back():
    table = np.arange(24.0).reshape(4, 6)
    found, _ = unpack(pack({"x": table[::2, ::-3], "y": table.T}), what="it")
    assert found["x"].tolist() == table[::2, ::-3].tolist()
    assert found["y"].tolist() == table.T.tolist()


def test_what_was_read_may_be_written_to():
    found, _ = unpack(pack({"x": np.zeros(3)}), what="it")
    found["x"][1] = 7
    assert found["x"].tolist() == [0, 7, 0]


def test_equal_values_are_deflated_and_noise_is_not():
    noise = np.random.default_rng(1).standard_normal(10_000)
    assert len(pack({"x": np.zeros(10_000)})) < 1000
    assert len(pack({"x": noise})) >= noise.nbytes


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_goes_unseen(data):
    blob = pack({"x": np.arange(50), "y": np.zeros(400)}, {"who": "me"})
    at = data.draw(st.integers(0, len(blob) - 1))
    other = data.draw(st.integers(1, 255))
    broken = blob[:at] + bytes([blob[at] ^ other]) + blob[at + 1 :]
    with pytest.raises(CorruptError, match="journal record 7"):
        unpack(broken, what="journal record 7", number=7)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_blob_that_was_cut_off_is_corrupt(length):
    blob = pack({"x": np.arange(50)})
    with pytest.raises(CorruptError) as caught:
        unpack(blob[: min(length, len(blob) - 1)], what="it", number=3)
    assert caught.value.number == 3


def test_bytes_bound_to_something_else_are_corrupt():
    with pytest.raises(CorruptError, match="checksum"):
        unpack(pack({}, 1, bound_to=b"press"), what="it", bound_to=b"pump")


@pytest.mark.parametrize("column", [np.array([object()]), np.zeros(2, [("a", "i4")])])
def test_python_objects_are_refused(column):
    with pytest.raises(ValueError, match="column x: want numbers"):
        pack({"x": column})
