"""Clients for web servers, with the proxies and certificates that the environment names; addresses without passwords.

httpx reads the same variables, but ends with errors of its own where one has a form that it does not know, such as
`NO_PROXY=[::1]` or a network in CIDR notation.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.request import getproxies

import httpx

from dove_core.errors import UsageError

_TIMEOUT = 30.0  # seconds without a byte after which a connection is given up
_PROXIES = ("http", "https", "all")
_HIDDEN = "***"


def web_client(connections: int, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return a client that sends `headers` to the first host only: httpx leaves a token out when redirected.

    Raises:
        UsageError: a variable for proxies or certificates cannot be used.
    """
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    certificates = _certificates()
    direct = httpx.HTTPTransport(verify=certificates, limits=limits)
    transport = _ByEnvironment(direct, _transports(certificates, limits))
    return httpx.Client(timeout=httpx.Timeout(_TIMEOUT, pool=None), transport=transport, headers=headers)


def shown(address: str) -> str:
    """Return an address without its password and without the values of its query, for messages and JSON.

    >>> shown("https://me:secret@example.org/images.zip?sig=abc")
    'https://***@example.org/images.zip?***'
    """
    if "://" not in address:
        return address
    kind, _, rest = address.partition("://")
    login = re.match(r"[^/@]*:(?!\d+/).*@|[^/]*@", rest)  # a password may have a slash, a query mark or an @ in it
    if login:
        rest = f"{_HIDDEN}@{rest[login.end() :]}"
    front, mark, _ = rest.partition("?")
    return f"{kind}://{front}" + (f"{mark}{_HIDDEN}" if mark else "")


class _ByEnvironment(httpx.BaseTransport):
    """Sends each request through the proxy of its scheme, unless NO_PROXY names its host."""

    def __init__(self, direct: httpx.HTTPTransport, proxied: Mapping[str, httpx.HTTPTransport]) -> None:
        self._direct, self._proxied = direct, proxied
        self._exceptions = getproxies().get("no", "")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request directly or through its proxy."""
        kind = request.url.scheme if request.url.scheme in self._proxied else "all"
        if kind not in self._proxied or is_excepted(request.url.host, self._exceptions):
            return self._direct.handle_request(request)
        try:
            return self._proxied[kind].handle_request(request)
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise httpx.ProxyError(f"the proxy of {_variable_of(kind)} does not work: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        for transport in (self._direct, *self._proxied.values()):
            transport.close()


def is_excepted(host: str, exceptions: str) -> bool:
    """Tell whether a value of NO_PROXY names a host: by name, domain, address, network in CIDR notation, or `*`."""
    host = host.lower()
    for entry in exceptions.lower().split(","):
        name = entry.strip().rpartition("://")[2]
        name = re.sub(r"^\[(.*)\](?::\d+)?$|^([^:]+):\d+$", r"\1\2", name)  # without brackets and port
        if name == "*" or _is_in_network(host, name):
            return True
        name = name.removeprefix("*").removeprefix(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _transports(certificates: ssl.SSLContext, limits: httpx.Limits) -> dict[str, httpx.HTTPTransport]:
    """Return the transport through the proxy of each scheme that has one."""
    found = {}
    for kind, address in getproxies().items():
        if kind in _PROXIES and address:
            found[kind] = _through(kind, address if "://" in address else f"http://{address}", certificates, limits)
    return found


def _through(kind: str, address: str, certificates: ssl.SSLContext, limits: httpx.Limits) -> httpx.HTTPTransport:
    """Return a transport through a proxy.

    Raises:
        UsageError: its address is not valid, or its protocol is not supported.
    """
    variable = _variable_of(kind)
    address = re.sub("^socks(?=://)", "socks5", address)
    scheme = address.partition("://")[0]
    unset = f"unset {variable}"
    try:
        return httpx.HTTPTransport(verify=certificates, limits=limits, proxy=address)
    except ImportError as error:
        hint = f"pip install socksio, or {unset}"
        raise UsageError(f"{variable}: a SOCKS proxy needs the package socksio", hint=hint) from error
    except (httpx.InvalidURL, ValueError) as error:
        if scheme not in ("http", "https", "socks5", "socks5h"):
            message, hint = f"{variable}: proxies of the kind {scheme}:// are not supported", "use an HTTP proxy"
        else:  # the reason that httpx gives may be a piece of the password
            message = f"{variable} is not the address of a proxy"
            hint = "write http://USER:PASSWORD@HOST:PORT, with # as %23, / as %2F and @ as %40 in a password"
        raise UsageError(message, hint=f"{hint}, or {unset}") from error


def _variable_of(kind: str) -> str:
    """Return the variable that names the proxy of a scheme, as the user spelled it."""
    name = f"{kind}_proxy"
    return name.upper() if name.upper() in os.environ and name not in os.environ else name


def _certificates() -> ssl.SSLContext:
    """Return the certificates to trust: those of SSL_CERT_FILE or SSL_CERT_DIR, or else those of certifi.

    Raises:
        UsageError: a variable names a file without certificates, or a folder that does not exist.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and folder:
        if not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
            raise UsageError(f"SSL_CERT_DIR: {folder} is not a folder", hint="unset SSL_CERT_DIR, or set it right")
        return ssl.create_default_context(capath=folder)
    if not file:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:  # SSLError is an OSError without a useful text
        reason = "it has no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        hint = "unset SSL_CERT_FILE, or set it to a file of certificates in PEM format"
        raise UsageError(f"SSL_CERT_FILE: {file} cannot be used: {reason}", hint=hint) from error
