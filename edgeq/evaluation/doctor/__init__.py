"""The calibration doctor: what speaks against samples, labels or the float model, before anything is converted."""
