"""How sparse can a neural network be? The library behind the scripts in `steps/`."""
