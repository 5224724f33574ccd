"""InfluxDB: results out by its v2 write API, what others wrote back in by InfluxQL.

``lines`` makes line protocol of points, ``sink`` carries it out; ``series`` says which series an
address means, ``history`` reads them. The write API is also spoken by VictoriaMetrics.
"""

from connectors.influxdb.history import History
from connectors.influxdb.sink import Sink

__all__ = ["History", "Sink"]
