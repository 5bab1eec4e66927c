"""Where the same apps run: in this process, on Flower's simulation engine, or on a SuperLink; and the vaults of a simulation."""
