"""A cross-validation as Keras' documentation would write it: the baseline of `cxr benchmark study`.

    python -m pipelines.benchmarks.stock_study SETTINGS.json

Every trial builds a fresh MobileNetV2, reads its images from class folders, augments them with Keras' own layers and
trains with `model.fit`, one trial after another. Sources: https://keras.io/guides/transfer_learning/ and
https://keras.io/examples/vision/image_classification_from_scratch/. Nothing of the platform is used but the names of
strategies and settings. The folders are FOLDERS/fold-K/train/CLASS and FOLDERS/fold-K/test/CLASS.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras

CLASSES = 7


def build_model(settings: dict[str, Any], cut: str | None, pretrained: bool) -> keras.Model:
    """Return MobileNetV2 with a head; the layers up to block `cut` are frozen, all of them for `"features"`."""
    size = settings["input_size"]
    weights = settings["weights"] if pretrained else None
    backbone = keras.applications.MobileNetV2((size, size, 3), settings["alpha"], include_top=False, weights=weights)
    if cut == "features":
        backbone.trainable = False
    elif cut is not None:
        last_frozen = [layer.name.startswith(f"{cut}_") for layer in backbone.layers][::-1].index(True)
        for layer in backbone.layers[: len(backbone.layers) - last_frozen]:
            layer.trainable = False
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomRotation(settings["rotation_degrees"] / 360, fill_mode="constant")(inputs)
    shift = settings["shift_fraction"]
    x = keras.layers.RandomTranslation(shift, shift, fill_mode="constant")(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = backbone(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(settings["dense_units"], activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(settings["dropout"])(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x))


def read_images(folder: Path, settings: dict[str, Any], shuffle: bool) -> Any:
    """Return the images below `folder` in batches, with the number of their class."""
    size = settings["input_size"]
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=settings["batch_size"], shuffle=shuffle, verbose=False
    )
    return dataset.prefetch(2)


def train_trial(settings: dict[str, Any], strategy: dict[str, Any], fold: int) -> tuple[int, int]:
    """Train one strategy without `fold`. Return the correct predictions on that fold and its number of images."""
    keras.utils.set_random_seed(settings["seed"] + fold)
    folder = Path(settings["folders"]) / f"fold-{fold}"
    model = build_model(settings, strategy["cut"], strategy["pretrained"])
    model.compile(
        optimizer=keras.optimizers.Adam(strategy["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(read_images(folder / "train", settings, shuffle=True), epochs=strategy["epochs"][fold], verbose=0)
    test = read_images(folder / "test", settings, shuffle=False)
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    images = len(list((folder / "test").glob("*/*")))
    return round(accuracy * images), images


def main(file: str) -> None:
    """Run all trials of the settings in `file`, and write the accuracy of each strategy beside it."""
    settings = json.loads(Path(file).read_text())
    accuracy = {}
    for name, strategy in settings["strategies"].items():
        correct, images = zip(
            *(train_trial(settings, strategy, fold) for fold in range(settings["folds"])), strict=True
        )
        accuracy[name] = sum(correct) / sum(images)
        print(f"{name}: accuracy {accuracy[name]:.3f}", flush=True)
    Path(settings["result"]).write_text(json.dumps(accuracy))


if __name__ == "__main__":
    main(sys.argv[1])
