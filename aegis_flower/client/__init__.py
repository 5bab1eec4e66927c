"""The client app: from a message to what leaves through the door. One file per step of a message."""

from aegis_flower.client.app import aegis_client_app as aegis_client_app
from aegis_flower.client.vault_client import Trained as Trained
from aegis_flower.client.vault_client import VaultClient as VaultClient
from aegis_flower.weights import apply_update as apply_update
from aegis_flower.weights import load as load
from aegis_flower.weights import weights as weights
