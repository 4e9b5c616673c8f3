"""What calibration data says of each tensor."""
