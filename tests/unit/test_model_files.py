"""Model files: both forms give the same arrays back, and a file from anybody gives numbers or one clear error."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from aegis_flower import checkpoint, model_files
from aegis_flower.errors import ConfigError, DataError

ARRAYS = {
    "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "file": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 3), np.float32),
    "a.bias": np.asfortranarray(np.ones((3, 2), np.float64)),
}


@pytest.mark.parametrize("made", [model_files.npz, model_files.safetensors])
def test_arrays_come_back_in_their_order_with_their_shapes(tmp_path, made):
    file = tmp_path / "any.name"
    file.write_bytes(made(ARRAYS))
    found = model_files.read(file)
    assert list(found) == list(ARRAYS)
    for name, values in ARRAYS.items():
        assert (found[name].shape, found[name].dtype) == (values.shape, values.dtype)
        np.testing.assert_array_equal(found[name], values)


def test_other_readers_take_what_is_written(tmp_path):
    torch_file = pytest.importorskip("safetensors.torch")
    (tmp_path / "m.npz").write_bytes(model_files.npz(ARRAYS))
    (tmp_path / "m.safetensors").write_bytes(model_files.safetensors(ARRAYS, {"aegis.config_sha256": "00"}))
    with np.load(tmp_path / "m.npz") as stored:
        assert set(stored.files) == set(ARRAYS)
    assert torch_file.load_file(tmp_path / "m.safetensors")["z.weight"].shape == (2, 3)
    assert model_files.about(tmp_path / "m.safetensors")["aegis.config_sha256"] == "00"


def _tensors(head: object, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def _zip(parts: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", how) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def _npy(values: object) -> bytes:
    data = io.BytesIO()
    np.save(data, values, allow_pickle=True)
    return data.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("/tmp/opened-by-a-model-file", "w"))


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "nothing": b"",
    "text": b"not a model",
    "a pickle": pickle.dumps(Bomb()),
    "a head longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a head that is no JSON": _tensors(b"{{{{"),
    "a head of brackets": _tensors(b"[" * 100_000),
    "a head that is a list": _tensors([]),
    "a tensor past the end": _tensors({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"\0" * 4),
    "a tensor before the start": _tensors({"w": {**ONE, "data_offsets": [-4, 0]}}, b"\0" * 4),
    "a name twice": _tensors(
        b'{"w":' + json.dumps(ONE).encode() + b',"w":' + json.dumps(ONE).encode() + b"}", b"\0" * 4
    ),
    "a type nobody knows": _tensors({"w": {**ONE, "dtype": "X9"}}, b"\0" * 4),
    "a type that numpy has not": _tensors({"w": {**ONE, "dtype": "BF16", "data_offsets": [0, 2]}}, b"\0" * 2),
    "a cut file": model_files.safetensors(ARRAYS)[:-3],
    "a zip that is cut": model_files.npz(ARRAYS)[:-30],
    "objects in a zip": _zip({"w.npy": _npy(np.array([Bomb()], dtype=object))}),
    "texts in a zip": _zip({"w.npy": _npy(np.array(["a"]))}),
    "no array in a zip": _zip({"w.npy": b"nothing"}),
    "an array of another length": _zip({"w.npy": _npy(np.zeros(4))[:-8]}),
    "an array that says it is huge": _zip({"w.npy": _npy(np.zeros(4)).replace(b"(4,)", b"(2**60,)")}),
    "a zip that unpacks to much": _zip(
        {"w.npy": _npy(np.zeros(40 << 20, np.uint8)), "v.npy": _npy(np.zeros(40 << 20, np.uint8))}, zipfile.ZIP_DEFLATED
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_ends_in_an_error_that_names_it_and_runs_nothing(tmp_path, what):
    file = tmp_path / "model.safetensors"
    file.write_bytes(HOSTILE[what])
    tracemalloc.start()
    with pytest.raises(DataError, match=r"model\.safetensors: "):
        model_files.read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    with pytest.raises(ConfigError, match=r"^model\.init: "):
        checkpoint.initial(str(file), {})


def test_a_run_starts_from_safetensors_and_refuses_those_of_another_model(tmp_path):
    own = {"w": np.zeros((2, 2), np.float32)}
    file = tmp_path / "start.safetensors"
    file.write_bytes(model_files.safetensors({"w": np.eye(2, dtype=np.float32)}))
    np.testing.assert_array_equal(checkpoint.initial(str(file), own)["w"], np.eye(2))
    with pytest.raises(ConfigError, match=r"array 'w' is float32 \(2, 2\) there, float \(3,\) in the model"):
        checkpoint.initial(str(file), {"w": np.zeros(3, np.float32)})
    file.write_bytes(model_files.safetensors({"w": np.full((2, 2), np.nan, np.float32)}))
    with pytest.raises(ConfigError, match="not finite"):
        checkpoint.initial(str(file), own)
