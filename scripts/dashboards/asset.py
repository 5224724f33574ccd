"""What is the matter with this machine, and since when?"""

from dashboards.alarms import RAISED, alarms, notes
from dashboards.parts import (
    ASSETS,
    BLUE,
    CHANNELS,
    COVERAGE,
    GREEN,
    NO_MODEL,
    NONE_WANTED,
    ORANGE,
    RED,
    STATES,
    Json,
    dashboard,
    each,
    graph,
    lines,
    newest,
    numbers,
    only,
    said,
    select,
    steps,
    tally,
    timeline,
    variable,
)

SPREADS = 2  # either side of what was expected, as `watchkeeper plot` draws it


def asset() -> Json:
    """What is the matter with this machine, and since when?"""
    low, high = (f'mean("expected") {sign} {SPREADS} * mean("spread")' for sign in "-+")
    judged = f'"judged" = 1 AND {CHANNELS}'
    return dashboard(
        "watchkeeper-asset",
        "Watchkeeper: asset",
        "What is the matter with this machine, and since when?",
        variables=[
            variable("site", "asset_score", several=False),
            variable("area", "asset_score", "site", several=True),
            variable("asset", "asset_score", "site", "area", several=False),
            variable("channel", "channel_score", "site", "area", "asset", several=True),
        ],
        annotations=[
            RAISED,
            notes("Alarms returned", GREEN, "returned"),
            notes("What people did", BLUE, "acknowledged|shelved|unshelved"),
        ],
        panels=[
            numbers(
                "Now",
                "The newest score in the range; surprise counts only where the state is ok, and a "
                "low coverage means that sensors are missing: mend them first.",
                select(
                    newest("surprise", "threshold", "state", "coverage", "alarms_open"),
                    "asset_score",
                    ASSETS,
                ),
                size=(4, 10),
                overrides=[
                    only("surprise", decimals=2),
                    only("threshold", decimals=2, mappings=said(NO_MODEL)),
                    only("state", mappings=said(STATES)),
                    only("coverage", unit="percentunit", thresholds=COVERAGE),
                    only("alarms_open", displayName="open alarms", thresholds=NONE_WANTED),
                ],
            ),
            graph(
                "Surprise",
                "The highest surprise of each interval, where it counts (1 is one healthy moment "
                "in 10, 3 one in 1000), and the threshold it alarms at; over it, look at the "
                "shares and at the channels below.",
                [
                    lines(
                        select(
                            tally("surprise", how="max"),
                            "asset_score",
                            f'"valid" = 1 AND {ASSETS}',
                            each(),
                        )
                    ),
                    lines(
                        select(
                            tally("threshold", how="max"),
                            "asset_score",
                            f'"threshold" > 0 AND {ASSETS}',
                            each(),
                        )
                    ),
                ],
                unit="none",
                size=(20, 10),
                min=0,
                overrides=[
                    only(
                        "threshold",
                        color={"mode": "fixed", "fixedColor": RED},
                        custom__lineStyle={"fill": "dash", "dash": [8, 8]},
                        custom__showPoints="never",
                    )
                ],
            ),
            timeline(
                "State",
                "Whether the score counted at the end of each interval: warming follows a start or "
                "a gap, blind means that nothing could be judged, off that the machine stood; no "
                "colour means that nothing was scored.",
                [lines(select(tally("state", how="last"), "asset_score", ASSETS, each()))],
                words=STATES,
                interval="1m",
                size=(24, 4),
            ),
            graph(
                "Share in the surprise",
                "The mean share of each channel in the surprise, of a moment 100 % together; look "
                "at it where the surprise is over its threshold, below it is noise, and moments "
                "that were not scored count as 0.",
                [
                    lines(
                        select(
                            'mean("contribution") AS "share"',
                            "channel_score",
                            CHANNELS,
                            each("channel"),
                        ),
                        "$tag_channel",
                    )
                ],
                unit="percentunit",
                min=0,
                max=1,
                custom={
                    "fillOpacity": 60,
                    "lineWidth": 0,
                    "showPoints": "never",
                    "stacking": {"mode": "normal", "group": "A"},
                },
            ),
            graph(
                "Off by how many spreads",
                "The mean of measured minus expected in spreads (standard deviations) of the "
                "channel, so that all channels can be compared; a channel that stays beyond 2 or "
                "below -2 is not what the model expects of a healthy machine.",
                [
                    lines(
                        select(
                            'mean("residual") / mean("spread") AS "spreads"',
                            "channel_score",
                            judged,
                            each("channel"),
                        ),
                        "$tag_channel",
                    )
                ],
                unit="none",
                custom={"thresholdsStyle": {"mode": "dashed"}},
                thresholds=steps((None, ORANGE), (-SPREADS, "transparent"), (SPREADS, ORANGE)),
            ),
            graph(
                "$channel",
                "Measured and expected, the means of each interval in the channel's own unit, and "
                f"a band of {SPREADS} spreads (standard deviations) around what was expected; "
                "outside of it for long is unusual.",
                [
                    lines(
                        select(
                            'mean("value") AS "measured"',
                            "channel_score",
                            f'"valid" = 1 AND {CHANNELS}',
                            each(),
                        )
                    ),
                    lines(
                        select(
                            f'mean("expected") AS "expected", {low} AS "low", {high} AS "high"',
                            "channel_score",
                            judged,
                            each(),
                        )
                    ),
                ],
                unit="none",
                size=(24, 8),
                repeat="channel",
                overrides=[
                    only("measured", color={"mode": "fixed", "fixedColor": BLUE}),
                    only("expected", color={"mode": "fixed", "fixedColor": ORANGE}),
                    *(
                        only(
                            name,
                            color={"mode": "fixed", "fixedColor": ORANGE},
                            custom__lineWidth=0,
                            custom__showPoints="never",
                            custom__hideFrom={"legend": True, "tooltip": False, "viz": False},
                            **more,
                        )
                        for name, more in (
                            ("low", {}),
                            ("high", {"custom__fillBelowTo": "low", "custom__fillOpacity": 15}),
                        )
                    ),
                ],
            ),
            timeline(
                "Channels",
                "The worst of each interval: no value means that the sensor or its source is to be "
                "looked at, not judged that there was nothing to compare the value with.",
                [
                    lines(
                        select(
                            'min("valid") + min("judged") AS "seen"',
                            "channel_score",
                            CHANNELS,
                            each("channel"),
                        ),
                        "$tag_channel",
                    )
                ],
                words=[(0, "no value", ORANGE), (1, "not judged", BLUE), (2, "judged", GREEN)],
                interval="1m",
                size=(12, 8),
            ),
            graph(
                "Coverage",
                "The lowest share of the channels in each interval that had a value; a score from "
                "few channels sees little: mend the sensors.",
                [lines(select(tally("coverage", how="min"), "asset_score", ASSETS, each()))],
                unit="percentunit",
                min=0,
                max=1,
            ),
            alarms(
                "The newest 500 transitions of this asset's alarms in the range, each with its "
                "reason; acknowledge and shelve with watchkeeper alarms.",
                size=(24, 9),
            ),
        ],
    )
