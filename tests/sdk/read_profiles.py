"""Reads profile files with the official SDK, and prints for each the access key that it finds, or null.

Takes a JSON list of [form, text] on standard input, where form is "ini" or "cli", and prints a JSON list of
[id, secret] or null.
"""

import json
import os
import sys
import tempfile

from alibabacloud_credentials.provider import (
    CLIProfileCredentialsProvider,
    ProfileCredentialsProvider,
)


def read(form, text):
    provider = {"ini": ProfileCredentialsProvider, "cli": CLIProfileCredentialsProvider}[form]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "profiles")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        try:
            found = provider(profile_file=path).get_credentials()
        except Exception:
            return None
    return [found.get_access_key_id(), found.get_access_key_secret()]


json.dump([read(form, text) for form, text in json.load(sys.stdin)], sys.stdout)
