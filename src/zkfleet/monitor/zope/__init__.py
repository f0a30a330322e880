"""How does a Zope process get a monitor?

    <include package="zkfleet.monitor.zope" />

`configure.zcml` subscribes to what Zope says when it starts: its databases are
put into `databases`, plugins of zc.monitor become commands, and the monitor
starts where `zope.conf` says.

    <product-config zkfleet.monitor>
      bind 127.0.0.1:9644
    </product-config>

Nothing here is imported unless somebody asks for it.
"""

from zkfleet.monitor.zope.interfaces import IMonitorPlugin

__all__ = ["IMonitorPlugin"]
