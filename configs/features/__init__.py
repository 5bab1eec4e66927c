"""Feature plans by name: one YAML file per plan, for `data.features`."""
