"""From a preprocessed scan to its label map without leaving the device of the network.

The scan goes to the device once; windows are cut, computed, blended, brought to the scan's grid and reduced to labels
there, slab by slab, and the label map alone comes back. Additions and interpolations are those of
`stream_sliding_window` and `Restorer`, in the same order, so that the labels are the same.
"""
