"""Pictures at http and https addresses."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["download_picture", "web_address"]

_SILENCE = 20  # seconds without a byte
_LONGEST = 120  # seconds for the whole picture
_LARGEST = 100 * 2**20  # bytes
_ADDRESS = re.compile(r"(https?):/+(?=[^/])", re.IGNORECASE)  # one slash, as a Path has of two


def web_address(path: str | Path) -> str:
    """The http or https address that a text or a Path is, or "" if it is none."""
    start = _ADDRESS.match(text := str(path))
    return f"{start[1].lower()}://{text[start.end() :]}" if start else ""


def download_picture(address: str) -> bytes:
    """Download the content of an http or https address; only redirections to such addresses are followed.

    Raises:
        ValueError: there is no answer within 20 seconds, an error, nothing, or more than 100 MB or 120 seconds of
            content.
    """
    end = time.monotonic() + _LONGEST
    try:
        with _opener().open(address, timeout=_SILENCE) as answer:
            content = bytearray()
            while part := answer.read1(1 << 16):
                content += part
                if len(content) > _LARGEST:
                    raise ValueError(f"{address} has more than {_LARGEST >> 20} MB; download it and give the file.")
                if time.monotonic() > end:
                    raise ValueError(f"{address} takes more than {_LONGEST} seconds; download it and give the file.")
            missing = getattr(answer, "length", 0)  # of the stated bytes
    except urllib.error.HTTPError as error:
        raise ValueError(f"{address} answers {error.code} ({error.reason}); check the address.") from error
    except TimeoutError as error:
        raise ValueError(f"{address} did not answer for {_SILENCE} seconds; try again or give a file.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"{address} cannot be opened ({reason}); check the address and the network.") from error
    if missing or not content:
        what = f"broke off {missing} bytes before the end" if missing else "is empty"
        raise ValueError(f"{address} {what}; try again or give a file.")
    return bytes(content)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https, and neither files nor ftp, whatever a redirection says."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "possam")]
    return opener
