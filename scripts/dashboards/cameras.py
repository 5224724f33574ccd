"""What do cameras see, and does it agree with the sensors?"""

from dashboards.alarms import RAISED
from dashboards.parts import (
    ASSETS,
    BLUE,
    CAMERAS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SERVICE,
    SERVICE_URL,
    SOURCES,
    YES_NO,
    Json,
    coloured,
    columns,
    dashboard,
    each,
    graph,
    lines,
    newest,
    only,
    said,
    select,
    table,
    tally,
    timeline,
    variable,
)

BARS = {
    "drawStyle": "bars",
    "fillOpacity": 80,
    "lineWidth": 0,
    "showPoints": "never",
}
STACKED = BARS | {"stacking": {"mode": "normal", "group": "A"}}
SHARES = BARS | {"stacking": {"mode": "percent", "group": "A"}}
GRADES = [("accept", GREEN), ("rework", ORANGE), ("reject", RED), ("none", GREY)]
SEEN = [(0, "no", GREY), (1, "yes", GREEN)]
OVERLAY = [
    {
        "title": "The picture, with what was found",
        "url": "${service}/pictures/${__value.raw}/overlay",
        "targetBlank": True,
    }
]
GRADED = coloured(
    "grade",
    mappings=[
        {
            "type": "value",
            "options": {
                name: {"color": color, "index": index} for index, (name, color) in enumerate(GRADES)
            },
        }
    ],
)
LINKED = only("picture", links=OVERLAY, custom__width=140)


def cameras() -> Json:
    """What do cameras see, and does it agree with the sensors?"""
    found = ("label", "probability", "surprise", "defects", "grade", "rule", "picture")
    about = ("valid", "reason", "part", "recipe", "model_hash")
    sizes = ("sized", "width_mm", "height_mm", "length_mm", "area_mm2", "area_ahead", "area_unit")

    def counted(where: str, *by: str) -> Json:
        """How many pictures fell into each interval."""
        query = select(
            'count("valid") AS "pictures"', "picture_result", where, each(*by, empty="none")
        )
        return lines(query, " ".join(f"$tag_{name}" for name in by))

    return dashboard(
        "watchkeeper-cameras",
        "Watchkeeper: cameras",
        "What do cameras see, and does it agree with the sensors?",
        variables=[
            variable("site", "picture_result", several=False),
            variable("area", "picture_result", "site", several=True),
            variable("asset", "picture_result", "site", "area", several=True),
            variable("camera", "picture_result", "site", "area", "asset", several=True),
            variable("source", "pipeline_health", "site", several=True),
            SERVICE_URL,
        ],
        annotations=[RAISED],
        panels=[
            table(
                "Cameras",
                "The newest picture of each camera in the range; its link opens the picture if the "
                "service's address, above, can be reached from here.",
                select(
                    newest("surprise", "label", "probability", "defects", "grade", "valid"),
                    "picture_result",
                    CAMERAS,
                    'GROUP BY "asset", "camera"',
                ),
                order=("asset", "camera", "label", "probability", "surprise", "defects", "grade"),
                size=(24, 7),
                overrides=[
                    only("probability", unit="percentunit"),
                    only("surprise", decimals=2),
                    GRADED,
                    coloured("valid", displayName="inspected", mappings=said(SEEN)),
                ],
            ),
            graph(
                "Pictures inspected",
                "How many pictures of each camera fell into each interval, by their own time; a "
                "camera without bars is away, or its line stands.",
                [counted(f'"valid" = 1 AND {CAMERAS}', "camera")],
                unit="short",
                min=0,
                custom=STACKED,
            ),
            graph(
                "Pictures not inspected",
                "How many pictures could not be inspected in each interval, by their reason: the "
                "words are those of docs/cameras.md; none is a camera without a model.",
                [counted(f'"valid" = 0 AND {CAMERAS}', "camera", "label")],
                unit="short",
                min=0,
                custom=STACKED,
            ),
            graph(
                "Waiting to be inspected",
                "The most pictures of each source that were accepted and had no result yet, in "
                "each interval; one that only grows wants a smaller network or a faster machine.",
                [
                    lines(
                        select(
                            'max("waiting") AS "waiting"',
                            "pipeline_health",
                            SOURCES,
                            each("source"),
                        ),
                        "$tag_source",
                    )
                ],
                unit="short",
                interval="20s",
                min=0,
            ),
            graph(
                "From receipt to result",
                "Half of the last thousand pictures took less than p50 from their receipt to their "
                "result, 99 of 100 less than p99; each start of the process that inspects takes "
                "some seconds.",
                [
                    lines(
                        select(
                            'max("inspection_p50_ms") AS "p50", max("inspection_p99_ms") AS "p99"',
                            "pipeline_health",
                            f'"inspection_p99_ms" > 0 AND {SERVICE}',
                            each(),
                        ),
                        "$col",
                    )
                ],
                unit="ms",
                interval="20s",
                min=0,
            ),
            graph(
                "Classes",
                "The share of each class among the pictures of an interval; a share that grows is "
                "a process that changes.",
                [counted(f'"valid" = 1 AND {CAMERAS}', "label")],
                unit="short",
                custom=SHARES,
            ),
            graph(
                "Surprise",
                "The highest surprise of each camera in each interval (1 is one good picture in "
                "10, 3 one in 1000); many pictures in an interval have a higher highest one.",
                [
                    lines(
                        select(
                            tally("surprise", how="max"),
                            "picture_result",
                            f'"valid" = 1 AND {CAMERAS}',
                            each("camera"),
                        ),
                        "$tag_camera",
                    )
                ],
                unit="none",
                min=0,
            ),
            graph(
                "Grades",
                "How many parts were given each grade in each interval; none where there is no "
                "acceptance table, or a rule could not be judged.",
                [counted(f'"valid" = 1 AND {CAMERAS}', "grade")],
                unit="short",
                min=0,
                custom=STACKED,
                overrides=[
                    only(name, color={"mode": "fixed", "fixedColor": color})
                    for name, color in GRADES
                ],
            ),
            table(
                "Last defects",
                "The newest 100 pictures with a defect in the range; sizes are those of the "
                "largest one, and count only where the camera has a scale; area_ahead is foretold, "
                "of all together.",
                select(
                    columns("asset", "camera", *found, *sizes, *about),
                    "picture_result",
                    f'"defects" > 0 AND {CAMERAS}',
                    "ORDER BY time DESC LIMIT 100",
                ),
                order=("Time", "asset", "camera", *found, *sizes, *about),
                size=(24, 10),
                overrides=[
                    only("probability", unit="percentunit"),
                    only("surprise", decimals=2),
                    GRADED,
                    LINKED,
                    coloured("valid", displayName="inspected", mappings=said(SEEN)),
                    only("sized", displayName="sizes count", mappings=said(SEEN)),
                ],
            ),
            graph(
                "Foretold areas",
                "The largest area of all defects together on a picture of each interval, and what "
                "was foretold from it, with the interval that is to hold it; mm2 where the camera "
                "has a scale, else pixels; over the limit a growth alarm warns.",
                [
                    lines(
                        select(
                            tally("area_now", "area_ahead", "area_low", "area_high", how="max"),
                            "picture_result",
                            f'"foretold" = 1 AND {CAMERAS}',
                            each("camera"),
                        ),
                        "$tag_camera $col",
                    ),
                    lines(
                        select(
                            'min("warn_area") AS "limit"',
                            "picture_result",
                            f'"foretold" = 1 AND "warn_area" > 0 AND {CAMERAS}',
                            each("camera"),
                        ),
                        "$tag_camera $col",
                    ),
                ],
                unit="short",
                min=0,
            ),
            graph(
                "Begins soon",
                "How probable it is, at most in each interval, that something begins to go wrong "
                "within some pictures; of cameras with a model of progression, until it has begun.",
                [
                    lines(
                        select(
                            tally("onset", how="max"),
                            "picture_result",
                            f'"foretold" = 1 AND "begun" = 0 AND {CAMERAS}',
                            each("camera"),
                        ),
                        "$tag_camera",
                    )
                ],
                unit="percentunit",
                min=0,
                max=1,
            ),
            graph(
                "One judgement",
                "The highest surprise of sensors and pictures together in each interval, beside "
                "what each side said, what both agreed on, and the threshold: a combined alarm "
                "wants agreed at the threshold, so half of it from each side.",
                [
                    lines(
                        select(
                            tally(name, how="max"),
                            "asset_judgement",
                            " AND ".join([*(f'"{flag}" = 1' for flag in flags), ASSETS]),
                            each("asset"),
                        ),
                        "$tag_asset $col",
                    )
                    for name, *flags in (
                        ("surprise", "valid"),
                        ("sensor", "has_sensor"),
                        ("picture", "has_picture"),
                        ("agreed", "has_sensor", "has_picture"),
                        ("threshold", "valid"),
                    )
                ],
                unit="none",
                size=(24, 9),
                min=0,
            ),
            timeline(
                "Who spoke",
                "Whether sensors and pictures were there to be judged, at the end of each "
                "interval: a side that is absent counts neither as healthy nor as sick.",
                [
                    lines(
                        select(
                            tally("has_sensor", "has_picture", how="last"),
                            "asset_judgement",
                            ASSETS,
                            each("asset"),
                        ),
                        "$tag_asset $col",
                    )
                ],
                words=YES_NO,
                interval="1m",
                size=(12, 7),
            ),
            graph(
                "Age and weight of the picture",
                "How old the picture was that a judgement counts, at most, and the least share it "
                "had: old pictures fade by the kind's half_life_s.",
                [
                    lines(
                        select(
                            'max("picture_age_s") AS "age", min("picture_weight") AS "weight"',
                            "asset_judgement",
                            f'"has_picture" = 1 AND {ASSETS}',
                            each("asset"),
                        ),
                        "$tag_asset $col",
                    )
                ],
                unit="s",
                size=(12, 7),
                min=0,
                overrides=[
                    {
                        "matcher": {"id": "byRegexp", "options": "/weight$/"},
                        "properties": [
                            {"id": "unit", "value": "percentunit"},
                            {"id": "custom.axisPlacement", "value": "right"},
                            {"id": "color", "value": {"mode": "fixed", "fixedColor": BLUE}},
                        ],
                    }
                ],
            ),
        ],
    )
