"""MobileNetV2, the paper's head, the eight strategies. Keras and NumPy; the lung segmenter also SciPy and Pillow."""
