"""A DICOMweb server (Orthanc, a PACS): series are fetched by QIDO-RS and WADO-RS, segmentations stored by STOW-RS.

The server's address comes from the settings alone; a request names a series by its UID.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.server.refusals import RefusedError

if TYPE_CHECKING:
    from resvox.server.settings import ServeSettings

MB = 1e6
TIMEOUT_S = 60.0


class DicomWeb:
    """The DICOMweb server of the settings."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings

    def fetch(self, study: str, series: str, folder: Path) -> None:
        """Write the files of a series into a new folder.

        Args:
            study: StudyInstanceUID; "" where it is to be looked up.
            series: SeriesInstanceUID.

        Raises:
            RefusedError: no such series, a server that does not answer, or more than the limits of an upload.
        """
        folder.mkdir(parents=True)
        left, count = self.settings.max_unpacked_mb * MB, 0
        with self._client() as client:
            study = study or self._study_of(client, series)
            for dataset in client.iter_series(study, series):
                path = folder / f"{count:06d}.dcm"
                dataset.save_as(path, enforce_file_format=True)
                count, left = count + 1, left - path.stat().st_size
                if left < 0 or count > self.settings.max_files:
                    raise RefusedError(
                        "a series beyond the limits",
                        expected=f"at most {self.settings.max_files} files and {self.settings.max_unpacked_mb:g} MB",
                    )
        if count == 0:
            raise _no_series()

    def store(self, path: Path) -> dict[str, str]:
        """Store a DICOM file; its UIDs.

        Raises:
            RefusedError: a server that does not answer or does not store it.
        """
        import pydicom

        dataset = pydicom.dcmread(path)
        with self._client() as client:
            answer = client.store_instances([dataset])
        if "FailedSOPSequence" in answer and len(answer.FailedSOPSequence):
            raise RefusedError(
                "the DICOMweb server did not store the segmentation", expected="a server that accepts DICOM SEG"
            )
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        return {name: str(dataset[name].value) for name in names}

    def _study_of(self, client: Any, series: str) -> str:
        found = client.search_for_series(search_filters={"SeriesInstanceUID": series})
        studies = sorted({each["0020000D"]["Value"][0] for each in found})
        if not studies:
            raise _no_series()
        return str(studies[0])

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """A client; what goes wrong with the connection is a refusal that names no address."""
        try:
            import requests
            from dicomweb_client.api import DICOMwebClient
        except ImportError as error:
            raise RefusedError(
                f"{error.name} is not installed",
                expected="the extra serve",
                fix="pip install 'resvox[serve]'",
                status=503,
            ) from None
        settings = self.settings
        with requests.Session() as session:
            session.trust_env = False  # proxies and .netrc of this account are not meant
            if settings.dicomweb_user:
                name, _, password = settings.dicomweb_user.partition(":")
                session.auth = (name, password)
            headers = {"Authorization": f"Bearer {settings.dicomweb_token}"} if settings.dicomweb_token else None
            client = DICOMwebClient(settings.dicomweb.rstrip("/"), session=session, headers=headers, timeout=TIMEOUT_S)
            try:
                yield client
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else "an error"
                if status == 404:
                    raise _no_series() from None
                raise RefusedError(f"the DICOMweb server answers {status}", expected="200", status=502) from None
            except requests.RequestException as error:
                raise RefusedError(
                    f"the DICOMweb server cannot be reached ({type(error).__name__})",
                    expected="an answer",
                    fix="check the setting dicomweb",
                    status=502,
                ) from None


def _no_series() -> RefusedError:
    return RefusedError(
        "no such series on the DICOMweb server", expected="a SeriesInstanceUID that it knows", status=404
    )
