"""Numbers with their definitions; nothing here knows a model."""
