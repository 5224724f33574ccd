"""JSON payloads to readings: a bare number, a value, a flat object, ThingsBoard, a block.

Made once for a topic: what is wanted of it does not change. msgspec decodes; it bounds the depth
and refuses NaN and numbers beyond a float64.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connectors.batch import BAD_NO_DATA, GOOD, QUALITY_BAD
from connectors.payloads import waveform
from connectors.payloads.forms import Decoded, Form, Reason, RejectedError, Wanted
from connectors.payloads.stamps import status_keys, status_of, time_of

_MISSING = object()
_decode = msgspec.json.Decoder().decode


class JsonDecoder:
    """Reads the payloads of one topic."""

    def __init__(self, form: Form, wanted: Sequence[Wanted]) -> None:
        self._form = form
        self._whole = tuple(one for one in wanted if one.key is None)
        keys = {one.key for one in wanted}
        self._keyed = tuple(
            (one, one.key, tuple(one.key.split("."))) for one in wanted if one.key is not None
        )
        self._status_keys = tuple(key for key in status_keys(form) if key not in keys)
        self._unit_key = form.unit_key if form.unit_key not in keys else ""

    def __call__(self, payload: bytes | bytearray) -> Decoded:
        """Everything that is wanted of a payload, and why the rest was not taken."""
        found = Decoded()
        try:
            tree = _decode(payload)
        except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
            found.reasons.append(Reason.NOT_JSON)
            return found
        if type(tree) is list:
            for one in tree:
                self._take(one, found, alone=len(tree) == 1)
        else:
            self._take(tree, found, alone=True)
        return found

    def _take(self, tree: Any, found: Decoded, *, alone: bool) -> None:
        try:
            if type(tree) is dict:
                self._object(tree, found, alone=alone)
            elif self._form.format in ("auto", "number") and self._whole and alone:
                if self._form.time_key is not None:
                    raise RejectedError(Reason.TIME)  # noqa: TRY301 - one way out
                for one in self._whole:
                    self._reading(one, tree, None, GOOD, found)
            else:
                raise RejectedError(Reason.FORM)  # noqa: TRY301 - one way out
        except RejectedError as rejected:
            found.reasons.append(rejected.reason)

    def _object(self, tree: dict[str, Any], found: Decoded, *, alone: bool) -> None:
        shape = self._shape(tree)
        if self._form.format not in ("auto", shape):
            raise RejectedError(Reason.FORM)
        time = time_of(tree, self._form)
        if time is None and not alone:
            raise RejectedError(Reason.TIME)  # several at one instant: which is the latest?
        status = self._status(tree, GOOD)
        if self._whole and shape not in ("block", "value"):
            found.reasons.append(Reason.FORM)
        elif self._whole:
            for one in self._whole:
                self._node(one, tree, time, status, found)
        channels = tree["values"] if shape == "values" else tree
        unit = tree.get(self._unit_key)
        for one, key, path in self._keyed:
            node = channels[key] if key in channels else _walk(channels, path)
            if type(node) is dict:
                self._node(one, node, time, status, found)
            elif node is not _MISSING:
                self._reading(one, node, time, status, found, unit=unit)

    def _shape(self, tree: Mapping[str, Any]) -> str:
        if type(tree.get("values")) is dict:
            return "values"
        if "block" in tree:
            return "block"
        return "value" if self._form.value_key in tree else "flat"

    def _node(
        self, one: Wanted, node: dict[str, Any], time: int | None, status: int, found: Decoded
    ) -> None:
        """An object that is one tag's: its value or block, with what it says of itself."""
        try:
            status = self._status(node, status)
            if "block" in node:
                samples = waveform.in_json(node["block"], node, self._form)
                found.blocks.append(
                    waveform.block(samples, node, self._form, one, time=time, status=status)
                )
            elif self._form.value_key in node:
                value, unit = node[self._form.value_key], node.get(self._unit_key)
                self._reading(one, value, time, status, found, unit=unit)
            else:
                raise RejectedError(Reason.FORM)  # noqa: TRY301 - one way out
        except RejectedError as rejected:
            found.reasons.append(rejected.reason)

    def _status(self, node: Mapping[str, Any], default: int) -> int:
        for key in self._status_keys:
            if key in node:
                return status_of(node[key])
        return default

    def _reading(
        self,
        one: Wanted,
        value: Any,
        time: int | None,
        status: int,
        found: Decoded,
        *,
        unit: object = None,
    ) -> None:
        """One value; null is a bad sample, anything but a number or a truth is none."""
        kind = type(value)
        if unit is not None and one.unit is not None and unit != one.unit:
            found.reasons.append(Reason.UNIT)
        elif kind is float:
            found.readings.append((one.id, time, value, status))
        elif kind is int or kind is bool:
            try:
                found.readings.append((one.id, time, float(value), status))
            except OverflowError:
                found.reasons.append(Reason.NOT_A_NUMBER)
        elif value is None:
            bad = status if status >> 30 >= QUALITY_BAD else BAD_NO_DATA
            found.readings.append((one.id, time, math.nan, bad))
        else:
            found.reasons.append(Reason.NOT_A_NUMBER)


def _walk(node: Any, path: tuple[str, ...]) -> Any:
    """What stands at a dotted key, if all on the way are objects."""
    for step in path:
        if type(node) is not dict or step not in node:
            return _MISSING
        node = node[step]
    return node
