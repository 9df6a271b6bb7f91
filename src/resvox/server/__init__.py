"""A small server: a scan is uploaded, a job segments it, label maps and reports are downloaded.

The web server (FastAPI) accepts jobs and never reads a scan; one worker process per device does, with the predictor of
``resvox predict``. Needs the extra ``serve``.
"""
