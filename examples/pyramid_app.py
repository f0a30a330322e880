"""A Pyramid application that counts visits, in a ZODB database that the registry finds.

    pip install 'zkfleet[zeo]' pyramid pyramid_retry pyramid_tm pyramid_zodbconn waitress
    python examples/pyramid_app.py zkzeo://127.0.0.1:2181/databases/main [--port PORT]

    curl -X POST http://127.0.0.1:8080/

Each request is a transaction.  One that meets a conflict, or loses its ZEO server,
is done again: five times at most, and it waits for a server as long as the URI's `wait_timeout` says.
"""

import argparse

from pyramid.config import Configurator
from pyramid.view import view_config
from pyramid_zodbconn import get_connection
from waitress import create_server


@view_config(route_name="visits", request_method="POST", renderer="json")
def visit(request):
    root = get_connection(request).root()
    root["visits"] = root.get("visits", 0) + 1
    return {"visits": root["visits"]}


def make_application(uri):
    settings = {"zodbconn.uri": uri, "tm.manager_hook": "pyramid_tm.explicit_manager", "retry.attempts": 5}
    with Configurator(settings=settings) as config:
        for name in ("pyramid_retry", "pyramid_tm", "pyramid_zodbconn"):
            config.include(name)
        config.add_route("visits", "/")
        config.scan()
        return config.make_wsgi_app()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    server = create_server(make_application(options.uri), host="127.0.0.1", port=options.port)
    print(f"listening on http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
