"""Holds exchanges with the agent against its OpenAPI document: <openapi.yaml> <exchanges.json>

An exchange is {"path", "status", "headers": [[name, value]], "body"}, `path` being a key of the document. Prints
what does not conform, then every documented pair of path and status that no exchange shows. Fails when the document
itself is not OpenAPI.
"""

import json
import re
import sys

import jsonschema_rs
import schemathesis
import yaml


def resolved(document, node):
    while "$ref" in node:
        target = node["$ref"]
        node = document
        for part in target.removeprefix("#/").split("/"):
            node = node[part]
    return node


def responses_of(document, path):
    """What the one method of a path may answer."""
    (operation,) = document["paths"][path].values()
    return operation["responses"]


def documented(document, exchange):
    """The key under which the document has an exchange's status: itself, its class, or nothing."""
    responses = responses_of(document, exchange["path"])
    status = str(exchange["status"])
    return next((key for key in (status, status[0] + "XX") if key in responses), None)


def complaints(document, exchange):
    key = documented(document, exchange)
    if key is None:
        yield "the status is not documented"
        return
    response = resolved(document, responses_of(document, exchange["path"])[key])
    given = {name.lower(): value for name, value in exchange["headers"]}
    for name, header in response.get("headers", {}).items():
        header = resolved(document, header)
        value = given.get(name.lower())
        if value is None:
            if header.get("required"):
                yield f"the header {name} is missing"
            continue
        if header["schema"].get("type") == "integer" and re.fullmatch("-?[0-9]+", value):
            value = int(value)
        if not jsonschema_rs.is_valid(header["schema"], value):
            yield f"{name}: {value!r} is not what is documented"
    media_type = given.get("content-type")
    if "content" not in response:
        if exchange["body"] or media_type:
            yield "there is a body"
        return
    if media_type not in response["content"]:
        yield f"the content type {media_type} is not documented"
        return
    body = exchange["body"]
    if media_type == "application/json":
        body = json.loads(body)
    # The whole document is included so that references resolve.
    schema = {**document, **response["content"][media_type]["schema"]}
    for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(body):
        yield str(error)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = yaml.safe_load(file)
    schemathesis.openapi.from_dict(document).validate()
    with open(sys.argv[2], encoding="utf-8") as file:
        exchanges = json.load(file)
    left = {
        (path, status)
        for path in document["paths"]
        for status in responses_of(document, path)
    }
    for exchange in exchanges:
        for complaint in complaints(document, exchange):
            print(exchange["path"], exchange["status"], complaint)
        left.discard((exchange["path"], documented(document, exchange)))
    for path, status in sorted(left):
        print(path, status, "was not seen")


main()
