"""Servers that speak the protocols of other controllers, with a microscope behind them."""
