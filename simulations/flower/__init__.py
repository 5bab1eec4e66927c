"""Flower's own processes on one machine: certificates, SuperLink and SuperNodes for trials and tests."""
