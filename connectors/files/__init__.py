"""Files: recordings in (CSV, Parquet), messages out (one JSON file each).

The way of a recording: ``tables`` cuts files into blocks of raw columns, ``rows`` (with ``casts``
and ``times``) makes chunks of samples of them, ``merge`` and ``pieces`` bring the chunks of all
files into one order of time and cut that into batches, ``progress`` is the position of each batch,
and ``source`` is what the rest of the program sees.
"""

from connectors.files.sink import Sink
from connectors.files.source import History, Source

__all__ = ["History", "Sink", "Source"]
