"""The part of Helm's command line that this project uses, over Helm's library.

Commands and flags are spelt as in `helm`; what differs: `template` prints objects
in the order of the files of the chart, or as JSON, and `lint` fails on warnings.
"""

import argparse
import json
import pathlib
import re
import sys

import helm_python as helm

NAMESPACE = "coppice-system"


def merge(base, over):
    """`over` laid onto `base`: objects key by key, anything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}
    return over


def values(args):
    """What -f and --set ask for, the later over the earlier."""
    asked = {}
    for file in args.values:
        asked = merge(asked, helm.values_from_yaml(pathlib.Path(file).read_text()) or {})
    for text in args.set:
        asked = merge(asked, helm.parse_set_string(text))
    return asked


def template(args):
    """Prints what would be installed, without a cluster."""
    with helm.Chart.load(args.chart) as chart:
        rendered = chart.render(values(args), name=args.name, namespace=args.namespace)
    notes = next((text for path, text in rendered.items() if path.endswith("/NOTES.txt")), "")
    documents = [
        (path, text.strip())
        for path in sorted(rendered)
        if not path.endswith("/NOTES.txt")
        for text in re.split(r"^---$", rendered[path], flags=re.MULTILINE)
        if any(line.strip() and not line.startswith("#") for line in text.splitlines())
    ]
    if args.notes:
        print(notes.strip())
    elif args.output == "json":
        print(json.dumps([helm.values_from_yaml(text) for _, text in documents], indent=1))
    else:
        for path, text in documents:
            print(f"---\n# Source: {path}\n{text}")


def lint(args):
    """Fails with everything that Helm finds fault with."""
    report = helm.lint(args.chart, values(args), namespace=args.namespace, strict=True, kube_version=args.kube_version)
    found = [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
    found += [error for error in report["errors"] if not any(error in line for line in found)]
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)


def install(args):
    """Installs, or replaces what is installed by that name."""
    wait = "watcher" if args.wait else None
    with helm.Config(namespace=args.namespace) as cluster:
        there = any(release["name"] == args.name for release in cluster.list(all_states=True))
        if args.command == "upgrade" and (there or not args.install):
            release = cluster.upgrade(args.chart, args.name, values(args), wait=wait, timeout=args.timeout)
        else:
            release = cluster.install(
                args.chart,
                args.name,
                values(args),
                namespace=args.namespace,
                create_namespace=args.create_namespace,
                wait=wait,
                timeout=args.timeout,
                dry_run=args.dry_run,
            )
    print(f"{release['name']}: {release['status']}, revision {release['revision']}")


def uninstall(args):
    """Removes a release; what says `helm.sh/resource-policy: keep` stays."""
    with helm.Config(namespace=args.namespace) as cluster:
        cluster.uninstall(args.name, ignore_not_found=args.ignore_not_found, wait="watcher" if args.wait else None)


def package(args):
    """Writes the chart as an archive and prints its path."""
    print(helm.package(args.chart, destination=args.destination))


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/helm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, name, *positional):
        added = commands.add_parser(name, help=run.__doc__)
        added.set_defaults(run=run)
        for argument in positional:
            added.add_argument(argument)
        added.add_argument("--namespace", "-n", default=NAMESPACE)
        added.add_argument("--values", "-f", action="append", default=[], metavar="FILE")
        added.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
        added.add_argument("--wait", action="store_true")
        return added

    added = command(template, "template", "name", "chart")
    added.add_argument("--notes", action="store_true", help="only what an installation tells people")
    added.add_argument("--output", choices=("yaml", "json"), default="yaml")
    command(lint, "lint", "chart").add_argument("--kube-version")
    for name in ("install", "upgrade"):
        added = command(install, name, "name", "chart")
        added.add_argument("--create-namespace", action="store_true")
        added.add_argument("--install", "-i", action="store_true")
        added.add_argument("--timeout", type=int, default=300, metavar="SECONDS")
        added.add_argument("--dry-run", choices=("client", "server"))
    command(uninstall, "uninstall", "name").add_argument("--ignore-not-found", action="store_true")
    command(package, "package", "chart").add_argument("--destination", "-d", default=".")
    return parser.parse_args()


def main():
    """Runs one command; what Helm refuses is a line on standard error."""
    args = arguments()
    try:
        args.run(args)
    except (helm.HelmError, OSError) as error:
        print(f"scripts/helm {args.command}: {error}", file=sys.stderr)
        sys.exit(1)


main()
