"""Reads one secret as an application of the AWS Secrets Manager Agent does: <url> <token file> <secret name>"""

import sys

import requests

url, token_file, name = sys.argv[1:]
with open(token_file, encoding="ascii") as file:
    headers = {"X-Aws-Parameters-Secrets-Token": file.read()}
answer = requests.get(f"{url}/secretsmanager/get?secretId={name}", headers=headers, timeout=10)
sys.stdout.write(answer.json()["SecretString" if answer.ok else "__type"])
