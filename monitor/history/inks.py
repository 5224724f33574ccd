"""The colours of what is drawn."""

INK, MUTED, RULE = "#1d2733", "#66727f", "#d9dee3"
EXPECTED = "#2f7fb5"
STRANGE = "#b4231f"
