"""Reads one secret as an application of Vault does: <url> <secret name> [version]

The token comes from VAULT_TOKEN. Prints the answer's `data` as JSON, or the name and the errors of the exception.
"""

import json
import os
import sys

import hvac

url, name, *version = sys.argv[1:]
client = hvac.Client(url=url, token=os.environ["VAULT_TOKEN"])
try:
    answer = client.secrets.kv.v2.read_secret_version(
        path=name, version=version[0] if version else None, raise_on_deleted_version=True
    )
    print(json.dumps(answer["data"]))
except hvac.exceptions.VaultError as error:
    print(json.dumps({"exception": type(error).__name__, "errors": error.errors}))
