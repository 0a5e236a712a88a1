"""What the package costs, measured beside its peers in fresh processes on this machine. Run `make benchmark`."""
