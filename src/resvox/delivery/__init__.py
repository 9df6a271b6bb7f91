"""Results as other programs expect them: DICOM SEG and RTSTRUCT, label maps with names, coded structures.

Needs the extra ``dicom`` (highdicom) for SEG. Nothing is imported before it is used.
"""
