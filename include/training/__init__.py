"""What a training sees, what decides a fit, and how good a fit is. Pure functions of frames."""
