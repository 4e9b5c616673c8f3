"""What an error of ŵ, or of what a layer is fed, does to the loss."""

from noworse.sensitivity.measure import ESTIMATORS, Estimate, measure
from noworse.sensitivity.shifted import Error, Shift

__all__ = ["ESTIMATORS", "Error", "Estimate", "Shift", "measure"]
