"""Commands about the machine a node runs on may be put here: certificates for trials, what the kernel gives to a jail."""
