"""Asks what Vault clients ask before they read a secret, then reads one: <client> <url> <secret name>

The token comes from VAULT_TOKEN. Prints JSON. The clients are `hvac`, `dynaconf` with its default settings, and
`ansible`, which stands for the lookup plugins of community.hashi_vault with `token_validate=true`: they make these two
calls of hvac.
"""

import json
import os
import sys

import hvac

client_name, url, name = sys.argv[1:]
token = os.environ["VAULT_TOKEN"]


def with_hvac():
    client = hvac.Client(url=url, token=token)
    if not client.is_authenticated():
        return {"authenticated": False}
    return {
        "authenticated": True,
        "initialized": client.sys.is_initialized(),
        "sealed": client.sys.is_sealed(),
        "healthy": client.sys.read_health_status(method="GET")["sealed"] is False,
        "renewable": client.lookup_token()["data"]["renewable"],
        "mount": client.adapter.get(f"/v1/sys/internal/ui/mounts/secret/{name}")["data"],
        "value": client.secrets.kv.v2.read_secret_version(
            path=name, raise_on_deleted_version=True
        )["data"]["data"],
    }


def with_dynaconf():
    from dynaconf import Dynaconf

    try:
        settings = Dynaconf(
            vault_enabled=True,
            vault={"url": url, "token": token},
            vault_path=os.path.dirname(name),
        )
        return {"value": {"password": settings.get("password")}}
    except AssertionError as error:
        return {"exception": str(error)}


def with_ansible():
    client = hvac.Client(url=url, token=token)
    try:
        client.auth.token.lookup_self()["data"].pop("meta", None)
        return {"value": client.read(f"secret/data/{name}")["data"]["data"]}
    except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest):
        return {"exception": "Invalid Vault Token Specified."}


ways = {"hvac": with_hvac, "dynaconf": with_dynaconf, "ansible": with_ansible}
print(json.dumps(ways[client_name]()))
