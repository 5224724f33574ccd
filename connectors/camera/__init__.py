"""Pictures of inspection cameras, each once, and only such as can be inspected."""

from connectors.camera.source import Source

__all__ = ["Source"]
