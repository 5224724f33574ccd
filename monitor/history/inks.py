"""The colours of what is drawn."""

from monitor.core.records import AlarmClass

INK, MUTED, RULE = "#1d2733", "#66727f", "#d9dee3"
EXPECTED = "#2f7fb5"
STRANGE = "#b4231f"

ALARMS = {
    AlarmClass.PROCESS: STRANGE,
    AlarmClass.COMBINED: "#0f7a6c",
    AlarmClass.LIMIT: "#c9720c",
    AlarmClass.INSTRUMENT: "#7a5195",
    AlarmClass.PICTURE: "#2f7f79",
}  # those of class pipeline are of a source, which may have an asset's name
