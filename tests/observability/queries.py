"""Asks a Prometheus every query of a dashboard, as Grafana would: queries.py DASHBOARD URL"""

import json
import math
import sys
import urllib.parse
import urllib.request

# What Grafana puts in for its variables; the samples are a second apart.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}


def ask(url, path, **parameters):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)["data"]


def main(dashboard, url):
    with open(dashboard, encoding="utf-8") as file:
        dashboard = json.load(file)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "two panels share an id"
    silent = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, query
            found = ask(url, "query", query=query)["result"]
            if not any(math.isfinite(float(sample["value"][1])) for sample in found):
                silent.append(f"{panel['title']}: {query}")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["definition"].removeprefix("label_values(").rstrip(")").split(", ")
            if not all(label in series for series in ask(url, "series", **{"match[]": metric}) or [{}]):
                silent.append(variable["definition"])
    sys.exit("\n".join(["no data:", *silent]) if silent else 0)


main(*sys.argv[1:])
