"""What libcurl's failures are called in the log. Pure."""

from __future__ import annotations

import errno

import pycurl

X509_ERRORS = {9: "tls_not_yet_valid", 10: "tls_expired", 18: "tls_self_signed"}
"""OpenSSL's X509_V_ERR_ codes that people can act on by name."""

DIED = (pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_GOT_NOTHING, pycurl.E_HTTP2)
"""What a connection has died with, where it brought nothing of an answer."""
_CUT = (pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR)
"""What libcurl says where the receiver ends a connection with a word of TLS."""
ERRORS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns_failed",
    pycurl.E_URL_MALFORMAT: "invalid_url",
    pycurl.E_UNSUPPORTED_PROTOCOL: "not_http",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "not_http",
    pycurl.E_GOT_NOTHING: "empty_answer",
    pycurl.E_PARTIAL_FILE: "answer_cut_short",
    pycurl.E_SEND_ERROR: "connection_reset",
    pycurl.E_RECV_ERROR: "connection_reset",
    pycurl.E_SSL_CONNECT_ERROR: "tls_failed",
    pycurl.E_SSL_CERTPROBLEM: "tls_failed",
    pycurl.E_SSL_CIPHER: "tls_failed",
    pycurl.E_HTTP2: "http2_error",
    92: "http2_error",  # CURLE_HTTP2_STREAM, which pycurl does not name
    100: "headers_too_large",  # CURLE_TOO_LARGE, likewise
    pycurl.E_BAD_CONTENT_ENCODING: "bad_answer",
}


def of(easy: pycurl.Curl, code: int, detail: str) -> str:
    """The name of what became of a request that ended with libcurl's code and words."""
    if code == pycurl.E_COULDNT_CONNECT:
        refused = easy.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
        return "connection_refused" if refused else "connect_failed"
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return _of_certificate(easy.getinfo(pycurl.SSL_VERIFYRESULT), detail)
    if code in _CUT and " alert " in detail:
        # With TLS 1.3 a receiver looks at the client's certificate when the handshake is over.
        return "tls_client_certificate" if "certificate" in detail else "tls_failed"
    if code == pycurl.E_RECV_ERROR and (kind := _malformed(detail)):
        return kind
    return ERRORS.get(code, "request_failed")


def _malformed(detail: str) -> str | None:
    """What is wrong with an answer that libcurl calls a "failure in receiving": its words alone
    tell it from a reset, of which this is None."""
    if "Too large response headers" in detail:
        return "headers_too_large"
    return "not_http" if "chunk" in detail else None


def _of_certificate(result: int, detail: str) -> str:
    """What is wrong with a certificate, by OpenSSL's `result` and libcurl's words."""
    if result in X509_ERRORS:
        return X509_ERRORS[result]
    if "subject name" in detail or "match" in detail:
        return "tls_wrong_host"
    return "tls_untrusted"
