"""Training runs: from a Hydra config to a LightningModule, its loop and its files."""
