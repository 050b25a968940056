"""The TLS extension and the variables of mod_ssl: a table for each direction, then there and back."""

import ssl
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.tls import TLS_CIPHERS, TLS_KEYS, TLS_VERSIONS, put_tls, tls_extension

few = settings(max_examples=40, deadline=None)

NOTHING: dict[str, Any] = {
    "server_cert": None,
    "client_cert_chain": [],
    "client_cert_name": None,
    "client_cert_error": None,
    "tls_version": None,
    "cipher_suite": None,
}


def variables(tls: dict[str, Any]) -> dict[str, str]:
    environ: dict[str, Any] = {}
    put_tls(environ, tls)
    return environ


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({}, {"SSL_CLIENT_VERIFY": "NONE"}),
        ({"server_cert": None, "tls_version": None, "cipher_suite": None}, {"SSL_CLIENT_VERIFY": "NONE"}),
        (
            {"server_cert": "S", "tls_version": 0x0304, "cipher_suite": 0x1301, "client_cert_chain": ()},
            {
                "SSL_SERVER_CERT": "S",
                "SSL_PROTOCOL": "TLSv1.3",
                "SSL_CIPHER": "TLS_AES_128_GCM_SHA256",
                "SSL_CLIENT_VERIFY": "NONE",
            },
        ),
        ({"tls_version": 0x9999, "cipher_suite": 0x9999}, {"SSL_CLIENT_VERIFY": "NONE"}),
        (
            {"client_cert_chain": iter(["A", "B", "C"]), "client_cert_name": "CN=a"},
            {
                "SSL_CLIENT_CERT": "A",
                "SSL_CLIENT_CERT_CHAIN_0": "B",
                "SSL_CLIENT_CERT_CHAIN_1": "C",
                "SSL_CLIENT_S_DN": "CN=a",
                "SSL_CLIENT_VERIFY": "SUCCESS",
            },
        ),
        ({"client_cert_name": "CN=a"}, {"SSL_CLIENT_S_DN": "CN=a", "SSL_CLIENT_VERIFY": "SUCCESS"}),
        (
            {"client_cert_chain": ["A"], "client_cert_error": "expired"},
            {"SSL_CLIENT_CERT": "A", "SSL_CLIENT_VERIFY": "FAILED:expired"},
        ),
    ],
)
def test_the_extension_becomes_the_variables_of_mod_ssl(tls: dict[str, Any], expected: dict[str, str]) -> None:
    """ASGI TLS Extension, "TLS Connection Scope"; what is not known is left out."""
    assert expected == variables(tls)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SSL_PROTOCOL": "TLSv1.3"}, {"tls_version": 0x0304}),
        ({"SSL_PROTOCOL": "TLSv9", "SSL_CIPHER": "X"}, {}),
        ({"SSL_CIPHER": "ECDHE-RSA-AES128-GCM-SHA256"}, {"cipher_suite": 0xC02F}),
        ({"SSL_SERVER_CERT": "S"}, {"server_cert": "S"}),
        ({"SSL_SERVER_CERT": "", "SSL_CLIENT_CERT": "", "SSL_CLIENT_S_DN": "", "SSL_CLIENT_VERIFY": ""}, {}),
        ({"SSL_CLIENT_S_DN": "CN=a"}, {"client_cert_name": "CN=a"}),
        (
            {"SSL_CLIENT_CERT": "A", "SSL_CLIENT_CERT_CHAIN_0": "B", "SSL_CLIENT_CERT_CHAIN_1": "C"},
            {"client_cert_chain": ["A", "B", "C"]},
        ),
        ({"SSL_PROTOCOL": "x", "SSL_CLIENT_CERT_CHAIN_0": "B"}, {}),
        ({"SSL_CLIENT_CERT": "A", "SSL_CLIENT_VERIFY": "SUCCESS"}, {"client_cert_chain": ["A"]}),
        ({"SSL_PROTOCOL": "x", "SSL_CLIENT_VERIFY": "NONE"}, {}),
        (
            {"SSL_CLIENT_CERT": "A", "SSL_CLIENT_VERIFY": "FAILED:expired"},
            {"client_cert_chain": ["A"], "client_cert_error": "expired"},
        ),
        ({"SSL_PROTOCOL": "x", "SSL_CLIENT_VERIFY": "FAILED:"}, {"client_cert_error": "FAILED:"}),
        ({"SSL_PROTOCOL": "x", "SSL_CLIENT_VERIFY": "GENEROUS"}, {"client_cert_error": "GENEROUS"}),
    ],
)
def test_the_variables_become_the_extension(environ: dict[str, str], expected: dict[str, Any]) -> None:
    """ASGI TLS Extension: an error is told wherever a success is not."""
    assert NOTHING | expected == tls_extension(environ)


def test_the_keys_that_tell_of_tls_are_those_that_are_written() -> None:
    """All of them but the verdict, which is written in any case, and the rest of the chain."""
    tls = {
        "server_cert": "S",
        "client_cert_chain": ["A"],
        "client_cert_name": "CN=a",
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }
    assert {*TLS_KEYS, "SSL_CLIENT_VERIFY"} == set(variables(tls))


def test_the_numbers_are_those_of_openssl() -> None:
    """Names and numbers of versions and ciphers, as far as the OpenSSL of this Python has them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    known = {cipher["id"] & 0xFFFF: cipher["name"] for cipher in context.get_ciphers()}
    assert {number: name for number, name in TLS_CIPHERS.items() if number in known or name in known.values()} == {
        number: name for number, name in known.items() if number in TLS_CIPHERS or name in TLS_CIPHERS.values()
    }
    versions = {version.value: version.name for version in ssl.TLSVersion if version.value > 0}
    assert versions == {number: name.replace(".", "_") for number, name in TLS_VERSIONS.items()}


def test_the_ciphers_that_openssl_does_not_offer_are_those_of_the_rfc() -> None:
    """RFC 8446 B.4."""
    assert ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256") == (TLS_CIPHERS[0x1304], TLS_CIPHERS[0x1305])


text = st.text("abc", min_size=1)


@few
@given(
    st.fixed_dictionaries(
        {
            "server_cert": st.none() | text,
            "client_cert_chain": st.lists(text, max_size=3),
            "client_cert_name": st.none() | text,
            "client_cert_error": st.none() | text,
            "tls_version": st.none() | st.sampled_from(sorted(TLS_VERSIONS)),
            "cipher_suite": st.none() | st.sampled_from(sorted(TLS_CIPHERS)),
        }
    )
)
def test_what_both_can_say_comes_back(tls: dict[str, Any]) -> None:
    """Any version and cipher that has a name, any chain."""
    assert tls == tls_extension(variables(tls))
