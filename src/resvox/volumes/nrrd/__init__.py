"""The header of NRRD (.nrrd, .nhdr), before ITK reads the file."""

from resvox.volumes.nrrd.header import NrrdHeader, read_header

__all__ = ["NrrdHeader", "read_header"]
