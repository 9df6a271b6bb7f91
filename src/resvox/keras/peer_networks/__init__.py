"""Networks of nnU-Net and MONAI as Keras models."""
