"""Which machine needs a look?"""

from dashboards.alarms import OF_ASSETS, RAISED, alarms
from dashboards.parts import (
    ASSETS,
    COVERAGE,
    GREEN,
    GREY,
    NO_MODEL,
    NONE_WANTED,
    ORANGE,
    RED,
    STATES,
    Json,
    coloured,
    dashboard,
    each,
    graph,
    lines,
    newest_with,
    only,
    panel,
    reduced,
    said,
    select,
    steps,
    table,
    variable,
)

RATIO = '"surprise" / "threshold" AS "ratio"'
NEAR = 0.8  # of the threshold: worth a look
NEARNESS = steps((None, GREEN), (NEAR, ORANGE), (1, RED))
LINKED = [
    {
        "title": "This asset",
        "url": "/d/watchkeeper-asset?var-site=${site}&var-asset=${__value.raw}&${__url_time_range}",
    }
]


def fleet() -> Json:
    """Which machine needs a look?"""
    told = ("surprise", "threshold", "state", "valid", "coverage", "alarms_open", "model")
    return dashboard(
        "watchkeeper-fleet",
        "Watchkeeper: fleet",
        "Which machine needs a look?",
        variables=[
            variable("site", "asset_score", several=False),
            variable("area", "asset_score", "site", several=True),
            variable("asset", "asset_score", "site", "area", several=True),
        ],
        annotations=[RAISED],
        panels=[
            table(
                "Assets",
                "The newest score of each asset in the range, those nearest to their threshold "
                "first; surprise and ratio count only where the state is ok, so begin with open "
                "alarms, then look at what is blind.",
                newest_with(RATIO, "asset_score", ASSETS, told, by='"area", "asset"'),
                order=("asset", "area", "ratio", "alarms_open", "state", *told),
                size=(24, 9),
                sort="of threshold",
                overrides=[
                    only("asset", links=LINKED),
                    only("surprise", decimals=2),
                    only("threshold", decimals=2, mappings=said(NO_MODEL)),
                    coloured("ratio", displayName="of threshold", decimals=2, thresholds=NEARNESS),
                    coloured("state", mappings=said(STATES)),
                    coloured(
                        "valid",
                        displayName="surprise counts",
                        mappings=said([(0, "no", GREY), (1, "yes", GREEN)]),
                    ),
                    coloured("coverage", unit="percentunit", thresholds=COVERAGE),
                    coloured("alarms_open", displayName="open alarms", thresholds=NONE_WANTED),
                ],
            ),
            graph(
                "Surprise against its threshold",
                "The highest surprise of each interval as a part of the asset's threshold, where "
                "the score counts; from 1 on the on-delay of an alarm runs: open the asset to see "
                "which channels it comes from.",
                [
                    lines(
                        select(
                            'max("surprise") / max("threshold") AS "ratio"',
                            "asset_score",
                            f'"valid" = 1 AND "threshold" > 0 AND {ASSETS}',
                            each("asset"),
                        ),
                        "$tag_asset",
                    )
                ],
                unit="none",
                size=(16, 9),
                custom={"thresholdsStyle": {"mode": "line"}},
                thresholds=steps((None, "transparent"), (1, RED)),
                min=0,
            ),
            panel(
                "bargauge",
                "Alarms raised",
                "How many alarms of each class each asset raised in the range, shelved ones too; "
                "one that raises many has a threshold or a limit too low, or a fault.",
                [
                    lines(
                        select(
                            'count("valid") AS "raised"',
                            "alarm_event",
                            f"\"transition\" = 'raised' AND {OF_ASSETS}",
                            'GROUP BY "asset", "class"',
                        ),
                        "$tag_asset $tag_class",
                    )
                ],
                size=(8, 9),
                options={
                    "reduceOptions": reduced("sum"),
                    "orientation": "horizontal",
                    "displayMode": "basic",
                    "valueMode": "color",
                    "namePlacement": "left",
                    "showUnfilled": False,
                    "sizing": "auto",
                    "minVizHeight": 16,
                    "minVizWidth": 8,
                    "maxVizHeight": 40,
                    "legend": {
                        "showLegend": False,
                        "displayMode": "list",
                        "placement": "bottom",
                        "calcs": [],
                    },
                },
                defaults={"unit": "none", "min": 0, "noValue": "none"},
            ),
            alarms(
                "The newest 500 transitions of alarms in the range, each with its reason; "
                "acknowledge and shelve with watchkeeper alarms.",
                size=(24, 10),
            ),
        ],
    )
