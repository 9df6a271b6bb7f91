"""Models in int8: the quantized network that lies beside a model file, and the windows of scans that make one."""
