"""A certificate for one test, signed by itself."""

import ssl
import subprocess
from pathlib import Path


def certified(directory: Path) -> ssl.SSLContext:
    """Write cert.pem and key.pem into `directory`; returns what a client has to know to believe them."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-days", "2", "-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run([*new, *subject, *files], check=True, capture_output=True)
    return ssl.create_default_context(cafile=str(directory / "cert.pem"))
