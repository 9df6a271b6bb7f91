"""Networks of nnU-Net as data: encoder and decoder of any number of stages."""
