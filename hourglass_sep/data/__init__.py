"""Data sets and the LightningDataModule over them."""
