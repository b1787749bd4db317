"""The LightningModule and the callbacks around it."""
