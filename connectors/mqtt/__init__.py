"""MQTT: measurements from a broker, results to one.

The way of a message: ``link`` is one connection to a broker, ``pump`` its thread, ``client`` and
``wire`` what that thread works with; ``topics`` says what each topic is for, ``decode`` makes
batches of what came (with the decoders of ``connectors.payloads``), and ``source`` and ``sink`` are
what the rest of the program sees. paho is imported when a link is opened.
"""

from connectors.mqtt.sink import Sink
from connectors.mqtt.source import Source

__all__ = ["Sink", "Source"]
