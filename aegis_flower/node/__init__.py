"""The node: what its operator set, whom it trusts, and its open vault."""

from aegis_flower.node.node import HOLDOUT as HOLDOUT
from aegis_flower.node.node import Node as Node
from aegis_flower.node.node import close_nodes as close_nodes
from aegis_flower.node.node import current as current
from aegis_flower.node.node import note_refusal as note_refusal
from aegis_flower.node.node import open_node as open_node
from aegis_flower.node.node import refusals as refusals
from aegis_flower.node.settings import NodeConfig as NodeConfig
