"""What is trained: multilayer perceptrons as flat vectors, and classifiers as torch modules."""
