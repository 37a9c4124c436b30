"""LightningDataModules; imported as `cmgems.data_modules`."""
