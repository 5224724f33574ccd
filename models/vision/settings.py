"""What can be set about the inspection of pictures; imports no torch, so that checking is quick."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.settings import FitSettings

Side = Annotated[int, Field(ge=8, le=4096)]
Amount = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "auto"]


class PreprocessSettings(BaseModel):
    """From the picture as it came to what the network sees, in the order of the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: tuple[int, int, int, int] | None = Field(
        None, description="x1, y1, x2, y2 in pixels of the picture as it came; null: all of it."
    )
    grey: bool = Field(default=False, description="One channel: the mean of all.")
    denoise: Literal["none", "median", "gaussian"] = Field(
        "none", description="median: against single pixels; gaussian: against grain."
    )
    denoise_size: int = Field(3, ge=3, le=15, description="Pixels across, an odd number.")
    height: Side = Field(description="Rows that the picture is brought to.")
    width: Side = Field(description="Columns that the picture is brought to.")
    contrast: Literal["none", "stretch", "equalise"] = Field(
        "none",
        description="stretch: the darkest and the lightest 1 % become black and white; equalise: "
        "all lightnesses become equally frequent.",
    )
    normalise: Literal["range", "picture"] = Field(
        "range",
        description="range: black is -1 and white 1; picture: each picture gets mean 0 and "
        "deviation 1 of its own, so that a change of light is not seen.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.denoise_size % 2 == 0:
            raise ValueError(f"denoise_size: want an odd number, got {self.denoise_size}")
        if self.crop is not None:
            x1, y1, x2, y2 = self.crop
            if min(x1, y1) < 0 or x2 <= x1 or y2 <= y1:
                raise ValueError(
                    f"crop: want x1 < x2 and y1 < y2, none below 0; got {list(self.crop)}"
                )
        return self


class AugmentSettings(BaseModel):
    """How training pictures are varied. Everything is drawn anew for each picture and pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip_horizontal: bool = Field(
        default=False, description="Left and right changed, every other time."
    )
    flip_vertical: bool = Field(default=False, description="Up and down changed, every other time.")
    quarter_turns: bool = Field(default=False, description="Turned by 0, 90, 180 or 270 degrees.")
    rotation: float = Field(0.0, ge=0, le=180, description="Degrees either way, at the most.")
    scale: Amount = Field(0.0, description="Larger or smaller by this share, at the most.")
    shift: Amount = Field(0.0, description="Moved by this share of its size, at the most.")
    brightness: float = Field(0.0, ge=0, description="Added, at the most; the range is -1 to 1.")
    contrast: Amount = Field(0.0, description="Deviations from the mean times 1 plus or minus it.")
    noise: float = Field(0.0, ge=0, description="Deviation of what is added to each pixel.")
    mixup: float = Field(
        0.0,
        ge=0,
        description="Alpha of the Beta distribution that says how much of another picture is mixed "
        "in (Zhang et al., ICLR 2018); 0: none.",
    )


class NetworkSettings(BaseModel):
    """One member of the residual family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(16, ge=4, le=256, multiple_of=4, description="Channels of the first stage.")
    depth: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        (1, 1, 1, 1),
        min_length=1,
        max_length=6,
        description="Blocks of each stage; each stage after the first halves the picture and "
        "doubles the channels.",
    )
    stem: Literal["full", "half", "resnet"] = Field(
        "half",
        description="The first layer: full keeps the picture's size, half halves it; resnet: 7x7 "
        "and a pooling, a quarter of it.",
    )
    norm: Literal["batch", "group"] = Field(
        "batch",
        description="batch: costs nothing once trained; group: for batches of few pictures.",
    )


class FinderSettings(BaseModel):
    """How places are found, where boxes are learnt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: NetworkSettings = NetworkSettings(width=8, depth=(1, 1, 1, 1), stem="half")
    reduce: int = Field(
        1,
        ge=1,
        le=8,
        description="The finder sees the prepared picture smaller by this factor; what tells "
        "classes apart sees it as it is.",
    )
    crop: Side = Field(
        256, description="Pixels either way of the part of a prepared picture that a step learns."
    )
    crops: int = Field(1, ge=1, description="Parts of each picture in one pass.")
    patch: Side = Field(
        64, description="Pixels either way around a centre that are looked at to tell its class."
    )


class MaskSettings(BaseModel):
    """How defects are told pixel by pixel, where masks are learnt, or good pictures alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: NetworkSettings = NetworkSettings(width=8, depth=(1, 1, 1, 1), stem="half")
    crop: Side = Field(
        256, description="Pixels either way of the part of a prepared picture that a step learns."
    )
    crops: int = Field(1, ge=1, description="Parts of each picture in one pass.")
    made_up: tuple[int, int] = Field(
        (6, 64),
        description="Pixels across, least and most, of the defects that are made up where good "
        "pictures alone are learnt.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        least, most = self.made_up
        if not 2 <= least <= most <= self.crop:
            raise ValueError(
                f"made_up: want 2 <= least <= most <= crop ({self.crop}), got {least} and {most}"
            )
        return self


class InspectionSettings(BaseModel):
    """What is inspected for, and by which network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preprocess: PreprocessSettings
    network: NetworkSettings = Field(
        NetworkSettings(), description="What tells classes apart: of pictures, or of found places."
    )
    finder: FinderSettings = Field(
        FinderSettings(), description="What finds places, where boxes are learnt."
    )
    mask: MaskSettings = Field(
        MaskSettings(), description="What tells pixels apart, where masks are learnt."
    )


class VisionFitSettings(FitSettings):
    """How an inspection is trained."""

    epochs: int = Field(60, ge=1, description="Passes over the pictures, at the most.")
    patience: int = Field(
        60, ge=1, description="Passes without a better validation loss before it stops."
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = Field("adam", description="How weights move.")
    learning_rate: float = Field(2e-3, gt=0, description="The optimizer's step, at its largest.")
    warmup_epochs: int = Field(
        1, ge=0, description="Passes over which the step grows to its full size."
    )
    schedule: Literal["constant", "cosine", "step", "plateau"] = Field(
        "cosine", description="How the step shrinks, as for sensor models."
    )
    l2: float = Field(1e-4, ge=0, description="Times half the sum of the squares of all weights.")
    batch_size: int = Field(32, ge=2, description="Pictures that share a step.")
    validation_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Of the pictures, by groups of near copies: they say when to stop, and what "
        "a good picture's anomaly is like.",
    )
    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0: a class counts by how often it was seen; 1: all count alike, however rare "
        "(logit adjustment: Menon et al., ICLR 2021).",
    )
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes."
    )
    precision: Precision = Field(
        "float32",
        description="What training computes with. bfloat16: convolutions in half as many bits, "
        "twice as fast where the processor has instructions for it (avx512_bf16, amx_bf16, GPUs "
        "since 2020), and half as fast elsewhere; auto: only where it has. Weights are float32 in "
        "any case, and so is use.",
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="How much of the running mean of all weights stays in a step; that mean is "
        "what is judged and kept (Polyak and Juditsky, 1992). 0: the last weights are; 0.99: "
        "those of about 100 steps.",
    )
    augment: AugmentSettings = AugmentSettings()


class GeneratorSettings(BaseModel):
    """What can be chosen about a generator of pictures and its training."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    noise: int = Field(64, gt=0, le=512, description="Numbers that a picture is made from.")
    width: int = Field(
        16,
        gt=0,
        le=256,
        description="Channels at full size; twice as many at half of it, and so on.",
    )
    widest: int = Field(96, gt=0, le=1024, description="Channels at the most.")
    steps: int = Field(3000, gt=0, description="Of training, at the most.")
    batch_size: int = Field(32, gt=1, le=1024, description="Real pictures a step.")
    learning_rate: float = Field(5e-4, gt=0, le=0.1, description="Of Adam, of both sides.")
    penalty: float = Field(
        0.05, ge=0, description="On the discriminator's gradient; more is calmer, and blurs."
    )
    penalty_every: int = Field(4, gt=0, description="Steps, and as many times as heavy.")
    mirror: bool = Field(
        default=True,
        description="Pictures may be mirrored both ways; not where left and right differ.",
    )
    augment: float = Field(
        0.8, ge=0, le=1, description="Share of pictures that are changed before they are judged."
    )
    precision: Precision = Field("float32", description="Of convolutions, in training; as of fit.")
    half_life: int = Field(
        50, gt=0, description="Steps of the running mean of weights, which is kept."
    )
    check_every: int = Field(250, gt=0, description="Steps.")
    patience: int = Field(6, gt=0, description="Checks without getting better that end it.")
    seed: int = Field(0, ge=0, lt=2**31, description="Another seed, other pictures.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU, if any.")
