"""Tasks of TotalSegmentator: several models of nnU-Net around one scan, from a local copy of their weights."""
