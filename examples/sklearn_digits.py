"""scikit-learn on a vault: partial_fit over batches that are decrypted ahead."""

import tempfile

import numpy as np
from aegis import Vault
from aegis_engine.dataset import Block, Fixed
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

digits = load_digits()
rows = np.column_stack([digits.data, digits.target]).astype("<f4")  # 64 pixels and the label
test, train = rows[::5], rows[np.arange(len(rows)) % 5 != 0]

with tempfile.TemporaryDirectory() as folder:
    vault = Vault.new(folder + "/vault", key=bytes(32))
    file_id = vault.store_bytes(train, "digits")
    dataset = vault.dataset(file_id, Fixed(dtype="<f4", shape=(65,)), shuffle=Block(window=4, seed=1))
    model = SGDClassifier(random_state=0)
    for _ in range(5):  # each pass over the dataset is the next epoch, in another order
        for batch in dataset.batches(64):
            model.partial_fit(batch[:, :64], batch[:, 64], classes=np.arange(10))

print(f"accuracy {100 * model.score(test[:, :64], test[:, 64]):.1f}%")
