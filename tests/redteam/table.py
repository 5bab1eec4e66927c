"""Prints the table "app → got" for the whole jail, for none, with each layer left out, and with each layer alone.

    python tests/redteam/table.py [DOCUMENT]

A document's table, below its marker, is written anew. Exits 1 when an app gets anything out of the whole jail.
"""

import pathlib
import sys
import tempfile

from aegis_engine.errors import JailError
from world import World, apps

from aegis_flower.jail.jail import LAYERS

WAYS = {
    "whole jail": (),
    "no jail": LAYERS,
    **{f"without {name}": (name,) for name in LAYERS},
    # a view is one of mounts of one's own, so it stands with the namespaces
    **{
        f"{name} alone": tuple(x for x in LAYERS if x != name and (name, x) != ("view", "namespaces"))
        for name in LAYERS
    },
}
MARKER = "<!-- made by `make test-redteam` -->\n"


def got_by(way):
    """Apps that got something, and what."""
    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        world = World(pathlib.Path(folder))
        jail = world.jail(without=WAYS[way])
        for app in apps():
            try:
                got, _ = world.run(jail, app)
                if ".leave_" in app and not got:
                    got, _ = world.run(jail, app.replace("leave_", "find_"))
            except JailError:  # an app broke its parent, which nothing shielded: that counts
                jail = world.jail(without=WAYS[way])
                found[app] = "the warm parent"
                continue
            finally:
                world.forget()
            if got:
                found[app] = ", ".join(got.channels)
        jail.close()
        world.close()
    return found


def main():
    """Runs all ways and prints what each let through."""
    results = {}
    for way in WAYS:
        results[way] = got_by(way)
        print(f"{way:24} {len(results[way]):4} of {len(apps())} apps got something", flush=True)
    lines = ["| app | no jail | layers that stop it alone |", "|---|---|---|"]
    for app in apps():
        bare = results["no jail"].get(app, "nothing to be had")
        alone = [name for name in LAYERS if app not in results[f"{name} alone"]] if app in results["no jail"] else []
        lines.append(f"| `{app}` | {bare} | {', '.join(alone) or '-'} |")
    ways = [
        "| layers | apps that got something |",
        "|---|---|",
        *(f"| {way} | {len(got)} |" for way, got in results.items()),
    ]
    text = "\n".join([*ways, "", *lines]) + "\n"
    if len(sys.argv) > 1:
        document = pathlib.Path(sys.argv[1])
        document.write_text(document.read_text().partition(MARKER)[0] + MARKER + "\n" + text)
    else:
        print(text)
    return 1 if results["whole jail"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
