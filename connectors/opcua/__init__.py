"""OPC UA servers: one subscription a rate class, acknowledged once the journal has it."""

from connectors.opcua.source import Source

__all__ = ["Source"]
