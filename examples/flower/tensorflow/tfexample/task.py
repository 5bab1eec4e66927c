"""tfexample: the model."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before Keras is imported; jax works, too


def load_model():
    """What both sides start from: a simple CNN for 8 x 8 pixels."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input(shape=(64,)),
            layers.Reshape((8, 8, 1)),  # a vault's rows are flat
            layers.Conv2D(32, kernel_size=(3, 3), activation="tanh"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    return model
