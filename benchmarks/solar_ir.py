"""InfraredSolarModules: eleven anomalies of photovoltaic modules and none, 24 x 40 thermal pixels.

Millendorf, Obropta and Vadhavkar, ICLR 2020 workshop AI for Earth Sciences; MIT. Half of the
pictures have no anomaly.
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
    name="solar_ir",
    settings=InspectionSettings(
        preprocess=PreprocessSettings(height=40, width=24),
        network=NetworkSettings(width=16, depth=(1, 1, 1), stem="full"),
    ),
    fit=VisionFitSettings(
        epochs=60,
        batch_size=64,
        validation_share=0.1,
        dropout=0.2,
        balance=0.5,
        smoothing=0.05,
        precision="bfloat16",
        augment=AugmentSettings(
            flip_horizontal=True,
            flip_vertical=True,
            shift=0.05,
            contrast=0.2,
            brightness=0.1,
            noise=0.02,
            mixup=0.2,
        ),
    ),
    good="No-Anomaly",
    floors={"accuracy": 0.80, "balanced_accuracy": 0.60},
)

if __name__ == "__main__":
    main(TASK, __doc__ or "")
