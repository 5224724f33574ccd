"""Alarms, as more than one dashboard shows them: marked in time, and as a table."""

from dashboards.parts import (
    ASSETS,
    BLUE,
    GREEN,
    GREY,
    RED,
    SITE,
    SOURCE,
    Json,
    coloured,
    columns,
    only,
    said,
    select,
    table,
)

OF_ASSETS = f"\"class\" != 'pipeline' AND {ASSETS}"
OF_SOURCES = f'"class" = \'pipeline\' AND "asset" =~ /^$source$/ AND {SITE}'


def notes(name: str, color: str, transitions: str, where: str = OF_ASSETS) -> Json:
    """Marks where alarms went through these transitions."""
    tags = ("asset", "class", "point", "transition", "who")
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": color,
        "query": select(
            columns("reason", *tags),
            "alarm_event",
            f'"transition" =~ /^({transitions})$/ AND {where}',
        ),
        "textColumn": "reason",
        "tagsColumn": ",".join(tags),
    }


RAISED = notes("Alarms raised", RED, "raised")


def alarms(description: str, *, size: tuple[int, int], where: str = OF_ASSETS) -> Json:
    """What became of alarms, as a table."""
    order = (
        "transition",
        "asset",
        "class",
        "point",
        "value",
        "threshold",
        "reason",
        "fault",
        "who",
    )
    also = ("shelved", "valid", "alarm_id", "picture")
    return table(
        "Alarms",
        description,
        select(columns(*order, *also), "alarm_event", where, "ORDER BY time DESC LIMIT 500"),
        order=("Time", *order, *also),
        size=size,
        overrides=[
            coloured(
                "transition",
                mappings=[
                    {
                        "type": "value",
                        "options": {
                            name: {"color": color, "index": index}
                            for index, (name, color) in enumerate(
                                [("raised", RED), ("returned", GREEN), ("acknowledged", BLUE)]
                            )
                        },
                    }
                ],
            ),
            only("reason", custom__width=480),
            only("value", decimals=2),
            only("threshold", decimals=2),
            only("shelved", mappings=said([(0, "", GREY), (1, "shelved", GREY)])),
            only(
                "valid",
                displayName="value counts",
                mappings=said([(0, "no: nothing was measured", GREY), (1, "yes", GREEN)]),
            ),
        ],
    )
