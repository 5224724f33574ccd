"""Which judge a detector's settings ask for."""

from collections.abc import Mapping

from models.discriminator import Discriminator
from models.nearest import Nearest
from models.settings import SmoothedSettings
from models.surprise import Mahalanobis

AnyJudge = Mahalanobis | Nearest | Discriminator

KINDS: Mapping[str, type[Mahalanobis] | type[Nearest] | type[Discriminator]] = {
    "distance": Mahalanobis,
    "nearest": Nearest,
    "discriminator": Discriminator,
}


def judge_of(settings: SmoothedSettings, channels: int) -> AnyJudge:
    """The judge that the settings ask for; it has learnt nothing yet."""
    judge = KINDS[settings.judge](channels, settings.spans, settings.lags)
    judge.score_span = settings.score_span
    return judge
