"""How many weights convex geometry allows to be removed, given the curvature of the loss."""
