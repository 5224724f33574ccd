"""docs/mqtt.md says what the decoders do."""

import re
from pathlib import Path

import numpy as np
import pytest

from connectors.batch import Flag, Notice, Samples
from connectors.contract import TagRef
from connectors.mqtt.decode import Decoder
from connectors.mqtt.pump import Received
from connectors.mqtt.settings import ReadingSettings
from connectors.payloads.forms import Reason

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^    (\S+) (.+)\n((?:    -> .+\n)+)", PAGE, re.MULTILINE)
CAME = 1_704_067_300_000_000_000  # after what the examples are stamped with
QUALITY = ("good", "uncertain", "bad", "bad")


def told(address, batch, row):
    moment = np.datetime64(int(batch.time[row]), "ns").astype("datetime64[s]")
    if not isinstance(batch, Samples):
        size, rate = batch.block.shape[1], batch.rate[row]
        return f"{address}: block of {size} at {rate:g} Hz, {moment}"
    when = "stamped on receipt" if batch.flags[row] & Flag.NO_SOURCE_TIME else moment
    return f"{address}: {batch.value[row]} {QUALITY[batch.status[row] >> 30]}, {when}"


@pytest.mark.parametrize(("topic", "payload", "wanted"), EXAMPLES)
def test_each_example_gives_what_the_page_says(topic, payload, wanted):
    lines = re.findall(r"-> (.+)", wanted)
    addresses = list(dict.fromkeys(line.split(": ")[0] for line in lines))
    tags = [TagRef(id=n, address=a, unit="m3/h") for n, a in enumerate(addresses)]
    settings = ReadingSettings(type="mqtt", host="h", client_id="c")
    message = Received(topic, payload.encode(), 1, retained=False, again=False, said=(), came=CAME)
    batches = Decoder("m", settings, tags).decode([message], "p")
    assert not [batch for batch in batches if isinstance(batch, Notice)]
    got = [told(addresses[b.tag[row]], b, row) for b in batches for row in range(len(b))]
    assert got == lines


def test_the_page_has_examples_and_names_every_reason():
    assert len(EXAMPLES) >= 7
    assert [reason for reason in Reason if f"`{reason}`" not in PAGE] == []
