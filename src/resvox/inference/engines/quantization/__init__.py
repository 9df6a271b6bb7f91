"""Networks whose convolutions compute in int8: made with NNCF, and recognised in the files of OpenVINO."""
