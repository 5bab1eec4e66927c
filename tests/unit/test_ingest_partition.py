"""From files to vaults: the splits, what ingest refuses, the vaults of a simulation, IDX files."""

from __future__ import annotations

import fcntl
import gzip
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower import data as datasets
from aegis_flower.configs import Config, DataConfig, compose
from aegis_flower.errors import DataError
from aegis_flower.ingest import Terms, ingest
from aegis_flower.ledger import Ledger, Mechanism
from aegis_flower.report.collect import majority
from aegis_flower.simulations import provision as provisioning
from aegis_flower.simulations.provision import provision

TERMS = Terms(["research"])

# -- partition ----------------------------------------------------------------------------------------------------------

LABELS = np.random.default_rng(1).integers(0, 4, 600)


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
@pytest.mark.parametrize("clients", [1, 3, 10])
def test_every_row_goes_to_exactly_one_node_and_each_gets_its_minimum(kind: str, clients: int) -> None:
    parts = datasets.partition(LABELS, DataConfig(partition=kind, clients=clients), seed=3, minimum=20)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    assert min(len(p) for p in parts) >= 20


def test_the_split_follows_the_seed() -> None:
    cfg = DataConfig(clients=4)
    first, again = (datasets.partition(LABELS, cfg, 3, 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = datasets.partition(LABELS, cfg, 4, 5)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_small_alpha_makes_nodes_less_alike() -> None:
    def unlikeness(alpha: float) -> float:
        total = 0.0
        for seed in range(10):
            parts = datasets.partition(LABELS, DataConfig(clients=4, alpha=alpha), seed, 1)
            shares = [np.bincount(LABELS[p], minlength=4) / len(p) for p in parts]
            total += float(np.std(shares, axis=0).sum())
        return total

    assert unlikeness(0.3) > 2 * unlikeness(30.0)


def test_too_few_rows_for_the_nodes_are_refused_with_what_to_lower() -> None:
    for kind in ("iid", "dirichlet"):
        with pytest.raises(DataError, match=r"data\.clients or policy\.min_rows"):
            datasets.partition(LABELS, DataConfig(partition=kind, clients=10), 1, 61)


def test_an_alpha_that_starves_nodes_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"data\.alpha"):
        datasets.partition(LABELS[:100], DataConfig(clients=10, alpha=0.001), 1, 10)


# -- the sources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("breast_cancer", 569), ("digits", 1797)])
def test_scikit_learns_sets_come_whole_scaled_and_as_their_spec_says(name: str, rows: int) -> None:
    source, origin = datasets.load(DataConfig(name=name))
    spec = datasets.spec(name)
    assert (len(source), source.spec) == (rows, spec)
    assert name in origin
    assert {c: v.shape[1] for c, v in source.columns.items()} == spec.columns
    assert all(v.dtype == np.float32 and v.min() >= -1 and v.max() <= 1 for v in source.columns.values())
    assert set(source.labels.tolist()) == set(range(spec.classes))
    assert len(set(source.subjects)) == rows


def test_a_limit_takes_the_first_rows() -> None:
    whole, _ = datasets.load(DataConfig())
    few, _ = datasets.load(DataConfig(limit=7))
    assert len(few) == 7
    assert few.subjects == whole.subjects[:7]
    assert all(np.array_equal(few.columns[c], whole.columns[c][:7]) for c in few.columns)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.random.default_rng(2).integers(0, 256, (5, 28, 28)).astype(np.uint8)
NAMES = np.array([0, 9, 3, 3, 1], np.uint8)


@pytest.fixture
def fashion(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of tiny IDX files, `changed` in place of some."""

    def write(suffix: str = "", **changed: bytes | None) -> Path:
        folder = tmp_path / "idx"
        folder.mkdir()
        for part, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
            for kind, body in (("images-idx3", idx(IMAGES[rows])), ("labels-idx1", idx(NAMES[rows]))):
                raw = changed.get(f"{part}_{kind[:6]}", body)
                if raw is not None:
                    stored = gzip.compress(raw) if suffix else raw
                    (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(stored)
        return folder

    return write


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_or_compressed(fashion: Any, suffix: str) -> None:
    source, origin = datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(suffix))))
    np.testing.assert_array_equal(source.labels, NAMES)
    pixels = (source.columns["pixels"] + 1) / 2 * 255
    np.testing.assert_allclose(pixels, IMAGES.reshape(5, 784), atol=1e-3)
    assert "idx" in origin


@pytest.mark.parametrize(
    ("part", "raw", "says"),
    [
        ("train_images", b"\x00\x00\x08\x01" + bytes(12), "not an IDX file"),
        ("train_images", idx(IMAGES[:3], kind=13), "not an IDX file"),
        ("train_images", b"\x89PNG", "not an IDX file"),
        ("train_images", b"", "not an IDX file"),
        ("t10k_images", idx(IMAGES[3:])[:-1], "announces"),
        ("t10k_labels", idx(NAMES[3:]) + b"\x00", "announces"),
        ("train_labels", idx(NAMES[:2]), "do not match"),
        ("train_images", idx(np.zeros((3, 8, 8), np.uint8)), "do not match"),
        ("train_images", idx(np.zeros((2**16, 0, 28), np.uint8)), "do not match"),
        ("t10k_labels", None, "no t10k-labels-idx1-ubyte"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(fashion: Any, part: str, raw: bytes | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(**{part: raw}))))


def test_sizes_that_only_fit_after_an_overflow_are_refused(fashion: Any) -> None:
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 4)  # the product is 0 modulo 2^64
    with pytest.raises(DataError):
        datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(train_images=head))))


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(idx(IMAGES[:3]))[:-9]])
def test_a_broken_gzip_file_is_a_data_error(fashion: Any, body: bytes) -> None:
    folder = fashion(".gz")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(body)
    with pytest.raises(DataError, match="train-images"):
        datasets.load(DataConfig(name="fashion_mnist", path=str(folder)))


def test_absent_files_come_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist") as error:
        datasets.load(DataConfig(name="fashion_mnist", path=str(tmp_path / "nowhere")))
    assert "data.path" in str(error.value)
    assert error.value.code == "AEG-D001"


# -- ingest ---------------------------------------------------------------------------------------------------------------


def names(vault: Vault) -> set[str]:
    return {str(entry["name"]) for entry in vault.list()}


@pytest.mark.parametrize(
    ("columns", "subjects", "says"),
    [
        ({"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)}, ["x"] * 3, "different lengths"),
        ({"a": np.zeros(3, np.float32)}, ["x"] * 2, "different lengths"),
        ({"a": np.zeros(3, np.float16)}, ["x"] * 3, "float16"),
        ({"a": np.zeros(3, np.uint32)}, ["x"] * 3, "uint32"),
        ({"a": np.array(["p", "q", "r"])}, ["x"] * 3, "cannot be stored"),
        ({"a": np.array([None, 1, 2])}, ["x"] * 3, "cannot be stored"),
        ({"a": np.zeros(3, bool)}, ["x"] * 3, "bool"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is(
    governed: Any, columns: dict[str, np.ndarray], subjects: list[str], says: str
) -> None:
    before = names(governed.vault)
    with pytest.raises(DataError, match=says):
        ingest(governed.vault, "new", columns, subjects, TERMS)
    assert names(governed.vault) == before


def test_a_name_that_is_taken_is_refused_and_the_data_there_stay(governed: Any) -> None:
    with pytest.raises(DataError, match="already has"):
        ingest(governed.vault, "tiny", {"height": np.zeros(2, np.float32)}, ["x", "y"], TERMS)
    assert governed.permit().rows == 40


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "u1", ">f4", ">i8"])
def test_every_dtype_comes_back_exactly(governed: Any, dtype: str) -> None:
    values = np.array([[0, 1], [7, 250], [3, 4]]).astype(dtype)
    dataset = ingest(governed.vault, "typed", {"v": values}, ["a", "b", "c"], TERMS)
    permit = ComplianceEngine(governed.vault).authorize(dataset, Request(action="train", purpose="research"))
    reader = governed.vault.records(permit)
    out = np.empty((3, 2), np.dtype(dtype).newbyteorder("<"))
    reader.read_rows(np.arange(3, dtype=np.uint32), out)
    np.testing.assert_array_equal(out, values)


def test_the_terms_are_sealed_with_the_data(govern: Any) -> None:
    governed = govern(budget_epsilon=2.5, basis="contract", min_rows=7)
    assert governed.engine().budget_epsilon(governed.dataset) == 2.5
    for who in sorted(set(governed.subjects)):
        governed.vault.consent_withdraw(who, "research")
    assert governed.permit().rows == 40  # these rows rest on a contract, not on consent


# -- the vaults of a simulation ---------------------------------------------------------------------------------------


def small(*overrides: str) -> Config:
    return compose("quickstart", ["data.clients=3", "data.limit=240", "data.withdrawn=0.1", *overrides])


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    root = tmp_path_factory.mktemp("hospitals") / "vaults"
    return root, provision(small(), root)


def opened(node: Any) -> Vault:
    return Vault.open(str(node.node_config["aegis-vault"]), key_file=str(node.node_config["aegis-key-file"]))


def test_each_node_has_its_own_vault_key_rows_and_withdrawals(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    assert [n.name for n in nodes] == ["hospital-1", "hospital-2", "hospital-3"]
    keys = {(root / "keys" / f"{n.name}.key").read_bytes() for n in nodes}
    assert len(keys) == 3
    stored, allowed = 0, 0
    for node in nodes:
        vault = opened(node)
        engine, found = ComplianceEngine(vault), vault.datasets()
        assert set(found) == {"breast_cancer", "breast_cancer.holdout"}
        for name, dataset in found.items():
            action = "evaluate" if name.endswith("holdout") else "train"
            seen = engine.explain(dataset, Request(action=action, purpose="research"))
            stored += seen["rows"] + sum(seen["denied"].values())
            allowed += seen["rows"]
    assert stored == 240
    assert allowed == pytest.approx(216, abs=6)  # a tenth of each set's people, rounded


def test_keys_can_be_read_by_their_owner_alone(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    assert (root / "keys").stat().st_mode & 0o077 == 0
    assert all((root / "keys" / f"{n.name}.key").stat().st_mode & 0o077 == 0 for n in nodes)


def test_provisioning_twice_reuses_vaults_consents_and_spent_budget(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    vault = opened(nodes[0])
    Ledger(vault, "breast_cancer").reserve(
        run="1", round_=1, mechanism=Mechanism(2.0, 0.1), steps=1, delta=1e-5, budget=10.0
    )
    before = {f: f.stat().st_mtime_ns for f in root.rglob("*.enc")}
    assert provision(small("strategy.rounds=3", "privacy.epsilon=1"), root) == nodes
    assert {f: f.stat().st_mtime_ns for f in root.rglob("*.enc")} == before
    assert Ledger(opened(nodes[0]), "breast_cancer").spent(1e-5).steps == 1


@pytest.mark.parametrize(
    "other", ["data.limit=230", "seed=1", "data.withdrawn=0.2", "policy.budget_epsilon=99", "policy.basis=contract"]
)
def test_vaults_of_other_data_or_terms_are_not_met_silently(hospitals: tuple[Path, list[Any]], other: str) -> None:
    with pytest.raises(DataError, match=r"vault\.root"):
        provision(small(other), hospitals[0])


def test_lifting_a_requirement_does_not_reuse_vaults_that_have_it(hospitals: tuple[Path, list[Any]]) -> None:
    with pytest.raises(DataError, match=r"vault\.root"):
        provision(small("policy.require_dp=false"), hospitals[0])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match="not empty"):
        provision(small(), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_runs_that_make_the_same_vaults_at_once_make_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "vaults"
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: provision(small(), root), range(2)))
    assert made[0] == made[1]
    assert all("breast_cancer" in opened(node).datasets() for node in made[0])
    monkeypatch.setattr(provisioning, "_WAIT", 0.0)
    with (root / provisioning._LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run is making these vaults"):
            provision(small(), root)


def test_the_largest_class_is_that_of_the_rows_that_accuracy_is_of(hospitals: tuple[Path, list[Any]]) -> None:
    """It was that of all rows, beside an accuracy over the held-out ones."""
    cfg = small()
    source, _ = datasets.load(cfg.data)
    whole = np.bincount(source.labels).max() / len(source)
    parts = datasets.partition(source.labels, cfg.data, cfg.seed, provisioning.minimum_rows(cfg))
    chosen = [part[datasets.split(len(part), cfg.data, cfg.seed, i).holdout] for i, part in enumerate(parts)]
    rows = [len(one) for one in chosen]
    for node, count in zip(hospitals[1], rows, strict=True):
        vault = opened(node)
        seen = ComplianceEngine(vault).explain(
            vault.datasets()["breast_cancer.holdout"], Request(action="evaluate", purpose="research")
        )
        assert seen["rows"] + sum(seen["denied"].values()) == count
    held = source.labels[np.concatenate(chosen)]
    assert majority(cfg) == pytest.approx(np.bincount(held).max() / len(held))
    assert majority(cfg) != pytest.approx(whole)
