import keras

from cxr_platform.config import ModelConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.mobilenet import HEAD_LAYERS, build_network
from pipelines.benchmarks.stock_study import build_model

SETTINGS = {
    "input_size": 32,
    "alpha": 0.35,
    "weights": None,
    "dense_units": 8,
    "dropout": 0.5,
    "rotation_degrees": 10.0,
    "shift_fraction": 0.1,
}


def test_the_stock_network_trains_the_same_layers_of_the_backbone() -> None:
    strategy = strategy_by_name("fine-tuning-3")
    stock = build_model(SETTINGS, strategy.cut, pretrained=False)
    (backbone,) = [layer for layer in stock.layers if isinstance(layer, keras.Model)]
    trained = [layer.name for layer in backbone.layers if layer.trainable and layer.weights]
    ours = build_network(strategy, ModelConfig(input_size=32, alpha=0.35)).trained_layers
    assert trained == [name for name in ours if name not in HEAD_LAYERS]
    assert stock.output_shape == (None, 7)
