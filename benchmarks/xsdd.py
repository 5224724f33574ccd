"""X-SDD: seven defects of hot-rolled steel strip, 128 x 128 pixels, by class.

Feng, Gao and Luo, Symmetry 13(4):706, 2021; Apache-2.0. There is no class of good pictures. The
pictures are grey, stored as colour; two of the original ones are a few pixels narrower or wider.
"""

from _pictures import Task, main

from models.vision.settings import (
    AugmentSettings,
    InspectionSettings,
    NetworkSettings,
    PreprocessSettings,
    VisionFitSettings,
)

TASK = Task(
    name="xsdd",
    settings=InspectionSettings(
        preprocess=PreprocessSettings(height=128, width=128, grey=True, normalise="picture"),
        network=NetworkSettings(width=16, depth=(1, 1, 1, 1)),
    ),
    fit=VisionFitSettings(
        epochs=60,
        validation_share=0.15,
        dropout=0.2,
        balance=0.5,
        smoothing=0.05,
        precision="auto",
        augment=AugmentSettings(
            flip_horizontal=True,
            flip_vertical=True,
            rotation=5,
            scale=0.1,
            shift=0.05,
            contrast=0.2,
            brightness=0.2,
            noise=0.05,
            mixup=0.2,
        ),
    ),
    floors={"accuracy": 0.95},
)

if __name__ == "__main__":
    main(TASK, __doc__ or "")
