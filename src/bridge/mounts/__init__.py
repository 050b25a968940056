"""`Mounts`: applications of either style under path prefixes, for servers of either kind."""

from bridge.mounts._mounts import AsgiMounts, Mount, Mounts, WsgiMounts

__all__ = ["AsgiMounts", "Mount", "Mounts", "WsgiMounts"]
