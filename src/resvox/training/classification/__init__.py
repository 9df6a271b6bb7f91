"""Classification: one answer for a whole image, 2D or 3D."""
