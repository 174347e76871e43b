"""Data sets and the LightningDataModules that load them."""
