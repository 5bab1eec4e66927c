"""Certificates and node keys for a Flower federation on machines of one's own.

For demonstrations, tests and a first deployment. A production federation takes its server certificate from the
authority its organisations already trust; the node keys made here are what Flower 1.41 wants in either case.

Everything is written once: no function of this module replaces a file that exists, and every private key is
created with mode 0600, so it is never readable by others, not even for a moment. Certificates and public keys may be handed out.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aegis_flower.errors import ConfigError, DeploymentError

# Certificates are valid from a little before now: a peer whose clock is behind would refuse them otherwise.
_CLOCK_SKEW = timedelta(minutes=5)


class KeyFileExists(DeploymentError, FileExistsError):
    """A key or certificate would have replaced a file; nothing was written."""


@dataclass(frozen=True)
class Certificates:
    """Files of one server's TLS identity.

    Attributes:
        ca: PEM certificate of the authority; clients give it as ``--root-certificates``.
        certificate: PEM certificate of the server (``--ssl-certfile``).
        key: PEM private key of the server (``--ssl-keyfile``).
    """

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class NodeKey:
    """Files of one SuperNode's authentication key pair.

    Attributes:
        private: OpenSSH private key (``flower-supernode --auth-supernode-private-key``).
        public: OpenSSH public key (``flwr supernode register``).
    """

    private: Path
    public: Path


def make_certificates(
    folder: str | os.PathLike[str],
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    days: int = 30,
) -> Certificates:
    """Make a local authority and a server certificate signed by it: ``ca.crt``, ``server.pem``, ``server.key``.

    The authority's private key is dropped once it has signed: the folder can never certify another server.

    Args:
        folder: where to write; made (mode 0700) when missing.
        hosts: DNS names and IP addresses by which clients reach the server.
        days: how long both certificates are valid.

    Raises:
        ConfigError: no host, or a period under one day.
        KeyFileExists: one of the three files is there already; nothing has been written then.
    """
    if not hosts or isinstance(hosts, str):
        raise ConfigError("hosts", "must be a list of at least one DNS name or IP address")
    if days < 1:
        raise ConfigError("days", f"must be at least 1, not {days}")
    folder = _private_folder(folder)
    files = Certificates(folder / "ca.crt", folder / "server.pem", folder / "server.key")
    _refuse_existing(files.ca, files.certificate, files.key)

    start = datetime.now(UTC) - _CLOCK_SKEW
    end = start + _CLOCK_SKEW + timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AEGIS local authority")])
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        _unsigned(ca_name, ca_name, ca_key.public_key(), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(ca_identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AEGIS local SuperLink")])
    # Subject alternative names alone decide whether a host matches (RFC 9525 §6.3): the common name is for reading.
    certificate = (
        _unsigned(name, ca_name, key.public_key(), start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )

    _write_new(files.ca, ca.public_bytes(Encoding.PEM), _PUBLIC)
    _write_new(files.certificate, certificate.public_bytes(Encoding.PEM), _PUBLIC)
    _write_new(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def make_node_keys(folder: str | os.PathLike[str], count: int) -> list[NodeKey]:
    """Make ``count`` SuperNode key pairs, ``node-0`` and ``node-0.pub``, ``node-1`` and so on.

    They are ECDSA keys on P-384 in OpenSSH's formats, which is what Flower 1.41 reads
    (``ssh-keygen -t ecdsa -b 384 -N ''`` makes the same). They carry no passphrase: Flower cannot ask for one, so
    the mode 0600 of the file is all that protects a private key. Only the ``.pub`` file leaves the node's machine.

    Args:
        folder: where to write; made (mode 0700) when missing.
        count: number of nodes.

    Raises:
        ConfigError: ``count`` is under 1.
        KeyFileExists: one of the files is there already; nothing has been written then.
    """
    if count < 1:
        raise ConfigError("count", f"must be at least 1, not {count}")
    folder = _private_folder(folder)
    keys = [NodeKey(folder / f"node-{index}", folder / f"node-{index}.pub") for index in range(count)]
    _refuse_existing(*(file for key in keys for file in (key.private, key.public)))
    for files in keys:
        key = ec.generate_private_key(ec.SECP384R1())
        _write_new(files.private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write_new(files.public, public + b"\n", _PUBLIC)
    return keys


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Key usage that Python's and OpenSSL's strict verification (RFC 5280 §4.2.1.3) accepts."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _refuse_existing(*files: Path) -> None:
    for file in files:
        if file.exists() or file.is_symlink():
            message = f"{file} exists already: keys and certificates are never replaced; name another folder"
            raise KeyFileExists(message)


_PUBLIC = 0o644  # what is handed out is readable by who hands it out


def _write_new(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Create ``file``, by default readable by its owner only; O_EXCL makes the refusal to overwrite hold in a race, too."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
