"""What stands behind a threshold: how often healthy machines went over which surprise.

Made by monitor/history/budget.py, kept on the card of the model, so that another budget gives
another threshold without another training.
"""

from pydantic import BaseModel, ConfigDict, Field

from models.tail import Tail


class Support(BaseModel):
    """Episodes over healthy history that the model never saw, as they stand on a card.

    An episode is what would have been an alarm, with these delays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    healthy_days: float = Field(ge=0)  # of frames that count, over all assets
    assets: int
    alarm: dict[str, float]  # the delays, clear_ratio and min_coverage it was counted with
    counted: tuple[tuple[float, int], ...] = Field(min_length=1)  # threshold, falling -> episodes
    tail: Tail | None = None  # of how high episodes go; None: too few of them
    own: bool = False  # of the model itself, which found more than those that never saw the machine
    unlike: float = Field(0.0, ge=0)  # log of what the threshold is raised by: assets differ
    per_asset_30_days: float = Field(gt=0)  # the budget that the card's threshold was chosen for
