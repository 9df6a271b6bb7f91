"""RUN/report.html: how a training goes, on one self-contained page."""
