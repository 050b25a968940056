"""`Mounts`: applications of either style under path prefixes, for servers of either kind."""

from bridge.mounts._mounts import AsgiMounts, Mount, Mounts, WsgiMounts

__all__ = ["AsgiMounts", "Mount", "Mounts", "WsgiMounts"]

# So that a repr shows the module that users import from, as in `bridge`.
for _public in (AsgiMounts, Mount, WsgiMounts):
    _public.__module__ = __name__
del _public
