"""What is trained: fully connected networks and their flat parameter layout."""
