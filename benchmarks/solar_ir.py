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
        network=NetworkSettings(width=32, depth=(3, 3, 3), stem="half"),
    ),
    fit=VisionFitSettings(
        epochs=45,
        batch_size=64,
        optimizer="sgd",
        momentum=0.9,
        learning_rate=0.1,
        l2=5e-4,
        gradient_norm=5.0,
        validation_share=0.1,
        balance=0.25,
        smoothing=0.05,
        average=0.99,
        precision="auto",
        augment=AugmentSettings(
            flip_horizontal=True,
            flip_vertical=True,
            scale=0.05,
            shift=0.05,
            contrast=0.1,
            brightness=0.05,
        ),
    ),
    good="No-Anomaly",
    floors={"accuracy": 0.80, "balanced_accuracy": 0.60},
)

if __name__ == "__main__":
    main(TASK, __doc__ or "")
