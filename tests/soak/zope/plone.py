"""A Plone site for the soak: how it is made, and what it does with an order beyond Zope's."""

from AccessControl import SpecialUsers
from AccessControl.SecurityManagement import getSecurityManager, newSecurityManager, setSecurityManager
from plone.dexterity.utils import createContentInContainer

from tests.soak.zope.instance import SITE
from tests.soak.zope.published import ADDED, Orders


def make_site():
    """Make the site, in a process whose working directory is a Zope instance's."""
    import transaction
    import Zope2
    from Products.CMFPlone.factory import addPloneSite
    from Testing.makerequest import makerequest
    from zope.globalrequest import setRequest
    from Zope2.Startup.run import configure_wsgi

    configure_wsgi("etc/zope.conf")
    app = makerequest(Zope2.app())
    setRequest(app.REQUEST)
    newSecurityManager(None, SpecialUsers.system)
    addPloneSite(app, SITE, extension_ids=("plone.app.contenttypes:default",), setup_content=False)
    transaction.commit()


class SiteOrders(Orders):
    """The pages of the site: an order is a document as well, which the catalog finds."""

    def add(self):
        """Add an order and its document, and say whether it was there."""
        said, asking = super().add(), getSecurityManager()
        if said == ADDED:
            newSecurityManager(None, SpecialUsers.system)
            try:
                createContentInContainer(
                    self.context, "Document", checkConstraints=False, id=self._id, title=self.request.form["name"]
                )
            finally:
                setSecurityManager(asking)
        return said

    def show(self):
        """Say of an order whether it is whole, and found."""
        found = self.context.portal_catalog.unrestrictedSearchResults(getId=self._id)
        return super().show() if len(found) == 1 else f"found {len(found)} times"

    @property
    def _id(self):
        return self.request.form["name"].replace(":", "-")


if __name__ == "__main__":
    make_site()
