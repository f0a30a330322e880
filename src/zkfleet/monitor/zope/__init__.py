"""How does a Zope process get a monitor?

    <include package="zkfleet.monitor.zope" />

`configure.zcml` subscribes to what Zope says when it starts: its databases are
put into `databases`, plugins of zc.monitor become commands, and the monitor
starts where `zope.conf` says, and is registered where it says.

    <product-config zkfleet.monitor>
      bind 127.0.0.1:0
      path /plone
    </product-config>

Nothing here is imported unless somebody asks for it.
"""

from zkfleet.monitor.zope.interfaces import IMonitorPlugin

__all__ = ["IMonitorPlugin"]
