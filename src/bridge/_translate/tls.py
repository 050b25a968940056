"""The ASGI TLS extension <-> the variables of Apache's mod_ssl, which WSGI apps and other WSGI servers use."""

from collections.abc import Mapping
from typing import Any

from bridge._types import Environ

# The names in OpenSSL, and so in Apache's mod_ssl, for the numbers of the ASGI TLS extension.
TLS_VERSIONS = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
TLS_CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0x1305: "TLS_AES_128_CCM_8_SHA256",
    0x009C: "AES128-GCM-SHA256",
    0x009D: "AES256-GCM-SHA384",
    0x009E: "DHE-RSA-AES128-GCM-SHA256",
    0x009F: "DHE-RSA-AES256-GCM-SHA384",
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
    0xCCAA: "DHE-RSA-CHACHA20-POLY1305",
}
_TLS_VERSION_NUMBERS = {name: number for number, name in TLS_VERSIONS.items()}
_TLS_CIPHER_NUMBERS = {name: number for number, name in TLS_CIPHERS.items()}
TLS_KEYS = ("SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_CERT", "SSL_CLIENT_S_DN", "SSL_SERVER_CERT")


def put_tls(environ: Environ, tls: Mapping[str, Any]) -> None:
    """The variables of Apache's mod_ssl, which WSGI apps know, from the ASGI TLS extension.

    Raises `TypeError` if it holds something else than texts and numbers.
    """
    chain = tls.get("client_cert_chain") or ()
    if isinstance(chain, str):
        raise TypeError("client_cert_chain is a str")
    chain = list(chain)
    name = tls.get("client_cert_name")
    error = tls.get("client_cert_error")
    "".join([*chain, tls.get("server_cert") or "", name or "", error or ""])  # a TypeError if one is not a text
    for key, value in (
        ("SSL_PROTOCOL", TLS_VERSIONS.get(tls.get("tls_version") or 0)),
        ("SSL_CIPHER", TLS_CIPHERS.get(tls.get("cipher_suite") or 0)),
        ("SSL_SERVER_CERT", tls.get("server_cert")),
        ("SSL_CLIENT_CERT", chain[0] if chain else None),
        ("SSL_CLIENT_S_DN", name),
    ):
        if value:
            environ[key] = value
    # mod_ssl counts the chain from the first certificate after the client's own.
    for number, certificate in enumerate(chain[1:]):
        environ[f"SSL_CLIENT_CERT_CHAIN_{number}"] = certificate
    environ["SSL_CLIENT_VERIFY"] = f"FAILED:{error}" if error else "SUCCESS" if chain or name else "NONE"


def tls_extension(environ: Environ) -> dict[str, Any]:
    """The ASGI TLS extension, from the variables of Apache's mod_ssl, which other servers share."""
    get = environ.get
    chain: list[str] = []
    if certificate := get("SSL_CLIENT_CERT"):
        chain.append(certificate)
        while certificate := get(f"SSL_CLIENT_CERT_CHAIN_{len(chain) - 1}"):
            chain.append(certificate)
    verified = get("SSL_CLIENT_VERIFY") or "NONE"
    return {
        "server_cert": get("SSL_SERVER_CERT") or None,
        "client_cert_chain": chain,
        "client_cert_name": get("SSL_CLIENT_S_DN") or None,
        # Apps take None for "verified", so anything that is not known to be a success must be an error.
        "client_cert_error": None if verified in ("SUCCESS", "NONE") else verified.removeprefix("FAILED:") or verified,
        "tls_version": _TLS_VERSION_NUMBERS.get(get("SSL_PROTOCOL", "")),
        "cipher_suite": _TLS_CIPHER_NUMBERS.get(get("SSL_CIPHER", "")),
    }
