"""TensorFlow on a vault: tf.data over batches that are decrypted ahead."""

import tempfile

import numpy as np
import tensorflow as tf
from aegis import Vault
from aegis_engine.dataset import Block, Fixed
from sklearn.datasets import load_digits

digits = load_digits()
rows = np.column_stack([digits.data / 16, digits.target]).astype("<f4")  # 64 pixels and the label
test, train = rows[::5], rows[np.arange(len(rows)) % 5 != 0]

with tempfile.TemporaryDirectory() as folder:
    vault = Vault.new(folder + "/vault", key=bytes(32))
    file_id = vault.store_bytes(train, "digits")
    dataset = vault.dataset(file_id, Fixed(dtype="<f4", shape=(65,)), shuffle=Block(window=4, seed=1))
    data = tf.data.Dataset.from_generator(
        lambda: dataset.batches(64), output_signature=tf.TensorSpec(shape=(None, 65), dtype=tf.float32)
    ).map(lambda batch: (batch[:, :64], tf.cast(batch[:, 64], tf.int32)))
    model = tf.keras.Sequential([tf.keras.layers.Dense(64, "relu"), tf.keras.layers.Dense(10)])
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(data, epochs=20, verbose=0)

_, accuracy = model.evaluate(test[:, :64], test[:, 64], verbose=0)
print(f"accuracy {100 * accuracy:.1f}%")
